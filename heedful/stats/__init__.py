"""Statistics of feedback and evaluation: numpy in, numpy out, thin over scipy. Never torch.

Answers as arrays:

- ``votes``        who gave which item which label
- ``comparisons``  who preferred which candidate to which

What a team sees of them:

- ``agreement``    how far annotators agree beyond chance; ``agreement_intervals`` how surely
- ``consensus``    majority with its ties; ``dawid_skene`` weighs votes by skill
- ``rates``        side bias, gold accuracy, self-consistency; whom to flag
- ``copying``      pairs who agree more than their skills explain
- ``cycles``       preferences that run in a circle
- ``pace``         median seconds per item
- ``groups``       differences between groups of annotators
- ``leaderboard``  models with ratings, ranks and style; ``noisy_bradley_terry`` with skill and side

What they and the rest are made of:

- ``intervals``    proportions, bootstrap means and win rates with their uncertainty
- ``multiple``     correction for looking many times
- ``logistic``     regression with a sandwich covariance
- ``ranking``      Bradley-Terry strengths from a table of wins
- ``calibration``  do a reward model's probabilities mean what they say
- ``concordance``  does a score follow ratings
- ``shortcuts``    does length, or style, do a reward model's work
- ``uncertainty``  does a reward model know when it is wrong
- ``ceiling``      how right a reward model could be, from people who answered the same
- ``raters``       who rates higher than others
- ``diversity``    how much a set of texts repeats itself
- ``design``       which comparisons teach most: D-optimal weights

Randomness is passed in as a numpy ``Generator``. A quantity that the data leave undefined is NaN;
input that cannot be meant is a ``ValueError``.
"""
