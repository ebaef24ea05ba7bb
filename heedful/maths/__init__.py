"""Formulas of preference learning: tensors and keyword hyper-parameters in, tensors out.

Any function here can be pasted into a notebook; nothing imports the rest of heedful.

- ``precision``   the float32 rule
- ``masked``      sums, means, variance and whitening over the tokens that count
- ``logprobs``    log-probabilities of chosen tokens from hidden states
- ``kl``          per-token KL estimators and the adaptive coefficient
- ``returns``     token rewards, rewards to go, generalised advantage estimation
- ``advantages``  group-relative, leave-one-out and batch-whitened advantages
- ``policy``      clipped policy and value losses with their diagnostics
- ``preference``  DPO and its relatives
- ``reward``      likelihoods of comparisons, ties, rankings and best-of-K picks
- ``judgements``  likelihoods of ratings, thumbs, flags and steps, about one answer alone
- ``aggregates``  one reward from criteria, groups, ensembles, flags and length
- ``disentangled`` a length head that takes length out of the quality head (ODIN)
- ``bestofn``     the KL bound of best-of-n and its unbiased estimate

Losses come back per element (token or pair); ``masked`` holds the reductions, because the choice
of one changes the objective. Half-precision inputs are computed in float32. Masks are bool and
padding may hold anything, NaN included.
"""
