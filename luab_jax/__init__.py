"""luab_jax: learning using annotation byproducts (LUAB) in JAX and Flax."""
