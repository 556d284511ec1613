"""Query by example: find a sound in a mixture from one example of it, and separate it.

The stages, in the order in which ``ast_dgmo.AstDgmo`` runs them:

1. ``tagging``: a tagger (an Audio Spectrogram Transformer) gives class probabilities and embeddings of the
   example, and of each window of the mixture.
2. ``detection``: windows whose tags are similar to those of the example become segments in time, with a
   confidence.
3. ``starts``: a first mask over (frame, mel): from a network, from spectral contrast, or in one of four
   other ways.
4. ``optimisation``: DGMO adapts that mask to this one mixture by gradient descent. A guard keeps the first
   mask where the adapted one is no better.
5. ``mel_masking``: the mask is applied to the mixture, which gives the target and the residual.

``event.Event`` holds the result of each stage for one query. ``query_mask.QueryMask`` is a separator of its
own: a network that is trained to mask everything but the sound of the example. Stage 3 can start from it.

Example:
    >>> import torch, sepnet
    >>> example, mixture = torch.randn(16000), torch.randn(1, 48000)
    >>> event = sepnet.find(mixture, 16000, query=(example, 16000))
    >>> event.target.shape
    torch.Size([48000])
"""
