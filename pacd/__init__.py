"""Poisoning Against Certified Defenses: the attack, the trainers and the certifier.

The study is one line, file by file: data -> attack -> train -> certify -> results.
"""
