"""The paper's method (Li et al. 2025): `lvcvae` the network, `losses` eq. 2–5, `objective` eq. 6, `stages` alg. 1."""
