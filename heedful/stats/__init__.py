"""Statistics of feedback and evaluation: numpy in, numpy out, thin over scipy. Never torch.

- ``intervals``    proportions, bootstrap means and win rates with their uncertainty
- ``calibration``  do a reward model's probabilities mean what they say
- ``ranking``      Bradley-Terry strengths from a table of wins
- ``agreement``    how far annotators agree beyond chance
- ``diversity``    how much a set of texts repeats itself
- ``design``       which comparisons teach most: D-optimal weights

Randomness is passed in as a numpy ``Generator``. A quantity that the data leave undefined is NaN;
input that cannot be meant is a ``ValueError``.
"""
