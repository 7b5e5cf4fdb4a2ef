"""Titles and captions of the tables and figures of a study's report."""

from __future__ import annotations

_CAPTIONS = {
    "variance": (
        "How much a game asks for an architecture",
        """Intraclass correlation ICC(3,1): the share of the variance of one training's final
        return that is between {population}, with its exact 95 % interval. What a seed does to all
        cells alike is taken out. Below 0: less than chance alone would make. Reliability: of means
        over the seeds of a cell. Return and multiply-adds: their rank correlation over
        {population}, with Fisher's interval. {sizes}""",
    ),
    "arms": (
        "Results",
        """Final return: interquartile mean of all trainings (of less than four the mean), with the
        95 % interval of a hierarchical bootstrap, which draws architectures and then seeds, and
        is too narrow for few searches. sd: standard deviation of the means of architectures, with
        the interval for normal ones. Training return: mean of the last 100 episodes. Cost: of the
        encoder alone, for one image; mean over trainings. {sizes}""",
    ),
    "differences": (
        "Beside {reference}",
        """Difference: mean over architectures minus that of {reference}, with Welch's interval of
        the means of architectures (of a single architecture: of its seeds), and with that of
        the hierarchical bootstrap, which is too narrow for few searches. At equal multiply-adds:
        above the straight line through {reference}, return against multiply-adds, with Welch's
        interval. Probability: that a training is better than one of {reference}. {sizes}""",
    ),
    "by_game": (
        "Minus {reference}, game by game",
        """Mean over architectures minus that of {reference}, with Welch's 95 % interval.
        {sizes}""",
    ),
    "by_game_equal_cost": (
        "Minus {reference} of as many multiply-adds, game by game",
        """Above the straight line through {reference}, return against multiply-adds, with Welch's
        95 % interval. {sizes}""",
    ),
    "percentiles": (
        "Among the random cells",
        """Mean return of an architecture over its seeds, the random cells whose mean is lower, and
        the share of all cells of the space that would be, with the exact interval of Clopper
        and Pearson. p: the probability that a cell drawn at random ranks so high, at least 1 /
        (n + 1). Neither has the noise of the architecture's own seeds. {sizes}""",
    ),
    "equal_time": (
        "Random search in the same time",
        """A search and one training of its cell take as long as n trainings of random cells, by
        wall time. Best of n: the expected score of the best of n random cells, chosen by one
        seed and scored by the others. Gain: mean of the found cells minus that, with Welch's
        95 % interval. {sizes}""",
    ),
    "overall": (
        "Over all games",
        """{games}: {scale}. Interquartile mean of all trainings on all games; probability that
        one is better than one of {reference} on the same game, mean over games; 95 % intervals
        of the hierarchical bootstrap, stratified by game, too narrow for few searches. {sizes}""",
    ),
    "supernets": (
        "Supernets",
        """Final return of the supernets themselves: interquartile mean over searches (of less
        than four the mean), a seed each; sd: standard deviation between searches, with the interval
        for normal ones. α of uniform supernets stays as it was initialized.""",
    ),
    "time": (
        "Where the time goes",
        """Mean wall time of a training with its evaluations, and the shares of it that its parts
        took (the columns seconds_... of metrics.csv); what no part counts is missing. {sizes}""",
    ),
    "missing": (
        "Missing trials",
        """{missing} of {trials} trials have no result yet; all numbers above are of the others.""",
    ),
    "scores": (
        "Final returns",
        """Grey: random cells, means over their seeds, as a histogram and one by one below it.
        Marks: the other cells, one by one. Dashed: hand-designed encoders. {sizes}""",
    ),
    "curves": (
        "Learning curves",
        """Mean return of the last 100 training episodes; mean and one standard deviation over all
        trainings of an arm. {sizes}""",
    ),
    "profiles": (
        "Performance profiles",
        """Share of trainings above a score, with pointwise 95 % intervals of the hierarchical
        bootstrap; {games}: {scale}. {sizes}""",
    ),
    "trajectory": (
        "Cells along the searches",
        """Final return of cells trained from scratch, against the step of the search at which they
        appeared; mean and one standard deviation over seeds. {sizes}""",
    ),
    "supernet_and_cell": (
        "Supernet and cell",
        """A point for each search: final return of the supernet, and of its cell (mean over
        seeds){unit}. {sizes}""",
    ),
    "cost": (
        "Return and cost",
        """A point for each architecture, mean over its seeds: final return against multiply-adds of
        the encoder for one image. Line: those that no other one beats at the same cost or less.
        {sizes}""",
    ),
}


def heading(name: str, **words: str) -> tuple[str, str]:
    """Title and caption of a table or figure.

    Args:
      name: of the table or figure.
      **words: what stands in braces in them.
    """
    title, caption = _CAPTIONS[name]
    return title.format(**words), " ".join(caption.format(**words).split())
