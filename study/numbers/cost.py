"""What the study costs."""

from study.tables import costs, without_index

PROFILE = "laptop"
EXPERIMENTS = ()


def numbers(profile=PROFILE):
    """The hours that the rows took which are there (dict of text)."""
    minutes = costs(profile)[["poisons, min", "victims, min"]].sum(axis=None)
    return {"hours": f"{minutes / 60:.1f}"}


def table(profile=PROFILE):
    """Minutes of each experiment."""
    found = costs(profile)
    minutes = [name for name in found if name.endswith("min")]
    return without_index(found).format("{:.0f}", na_rep="not known", subset=minutes)
