"""Poisoning Against Certified Defenses: the attack, the trainers and the certifier.

What the numbers of a run depend on, and nothing else. An image meets the files in this order:

    data -> attack (hypergradient; approxgrad; direct_search; controls) -> poison_file
         -> curation -> train (models, losses, smoothing)
         -> certify (votes, int8, counts), empirical

What is done with the method lies in the package ``study``, which nothing here imports.
"""
