"""Stage 4: DGMO, the optimisation of a mask for one mixture and one query.

``dgmo`` runs it. ``objective`` is the loss, the weighted sum of ``loss_terms``; ``descent`` minimises it over
``mask_parameters``, which are free values or Gaussians (``gaussians``, placed first by ``matching_pursuit``);
``guard`` decides between the optimised mask and the first one.
"""
