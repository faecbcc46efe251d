"""GRFD, the method of Li et al. 2025: each equation of the paper, and where it is.

======================================================  ==============================================================
in the paper                                            in `grfd.method`, file: function
======================================================  ==============================================================
eq. 1, an adversarial example x + δ                     not here: made by `grfd.attacks`
section 3.2, the networks q_φ, p_θ and f_ψ of LVCVAE    lvcvae: `LVCVAE`, `lenet_lvcvae`, `residual_lvcvae`
x_u = G(x); x_r = x − x_u                               lvcvae: `reconstruction`; `divided`, `robust_part`
eq. 2, L_rc, the reconstruction                         losses: `reconstruction_loss`
eq. 2, L_kl, the divergence                             losses: `kl_divergence`
eq. 2, L_rf, the rectification                          losses: `classification_loss` of f_ψ(z)
section 3.3, L_cl, the classification                   losses: `classification_loss` of f_φ(x_r)
eq. 3, the two gradients of the finite difference       losses: `input_gradients`
eq. 4, L_r, their squared distance                      losses: `gradient_difference_loss`
eq. 5, L_rb, their cosine                               losses: `gradient_similarity_loss`
eq. 5, v                                                losses: `gaussian_perturbation`, `sign_gradient_perturbation`
section 3.3, FRM: L_cl and L_rb together                objective: `StageOne.feature_robustness_metric`
eq. 6, Loss_all; the schedule of its weight α           objective: `loss_all`; `alpha_at`
algorithm 1, stage I, lines 1 to 14                     stages: `stage_one`; its lines 3 to 11, objective: `StageOne`
algorithm 1, stage II, lines 15 to 19                   stages: `stage_two`, `robust_dataset`
algorithm 1, stage III, lines 20 to 25                  stages: `stage_three`
======================================================  ==============================================================

The deployed defense x ↦ F(x − G(x)) is `grfd.defenses.grfd`. `residual` holds layers of the LVCVAE for colour images.

GRFD: Robust Feature Disentanglement based on a generative adversarial network (GAN). LVCVAE: Latent Variable
Constrained Variational Auto-Encoder, the generator G. RSM: Robust Supervisory Model, which judges x_r and has the
architecture of the target model F. FRM: Feature Robustness Metric.
"""
