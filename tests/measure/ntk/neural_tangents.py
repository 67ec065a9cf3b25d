"""Makes neural_tangents.npz: kernels by independent code. Not run by the tests.

Made with Python 3.11, neural-tangents 0.6.5, jax 0.5.3, jaxlib 0.5.3 (neural-tangents does not import with newer ones):

    python neural_tangents.py neural_tangents.npz

Weights are stored in torch's layout: linear (out, in), convolution (out, in, kh, kw), images (n, channels, h, w).
"""

import sys
from functools import partial

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

import neural_tangents as nt  # noqa: E402
from jax import numpy as jnp  # noqa: E402
from neural_tangents import stax  # noqa: E402


def tanh():
    return stax.Elementwise(jnp.tanh)


def store(name, layers, shape, to_torch, seed):
    """Draw weights and inputs, take the finite-width kernels, return arrays by name."""
    init, apply, _ = stax.serial(*layers)
    key, first, second, random = jax.random.split(jax.random.PRNGKey(seed), 4)
    _, weights = init(key, (-1, *shape))
    leaves, structure = jax.tree.flatten(weights)  # leaves out the bias None of the last layer
    weights = jax.tree.unflatten(
        structure,
        [jax.random.normal(k, w.shape) for k, w in zip(jax.random.split(random, len(leaves)), leaves, strict=True)],
    )
    x, x2 = jax.random.normal(first, (6, *shape)), jax.random.normal(second, (4, *shape))
    kernel = partial(nt.empirical_ntk_fn, apply, implementation=nt.NtkImplementation.NTK_VECTOR_PRODUCTS)
    full = kernel(trace_axes=())(x, x2, weights)
    trace = kernel(trace_axes=(-1,))(x, x2, weights) * full.shape[-1]  # theirs is the mean over outputs
    leaves = [to_torch(np.asarray(w)) for w in jax.tree.leaves(weights)]
    image = (lambda a: np.transpose(a, (0, 3, 1, 2))) if len(shape) == 3 else (lambda a: a)
    arrays = {"x": image(x), "x2": image(x2), "f": apply(weights, x), "trace": trace, "full": full}
    arrays |= {f"p{index}": leaf for index, leaf in enumerate(leaves)}
    return {f"{name}_{key}": np.asarray(value) for key, value in arrays.items()}


def linear_weight(w):
    return w.reshape(-1) if w.shape[0] == 1 else w.T  # a bias is (1, out)


def cnn_weight(w):
    if w.ndim == 4:  # (kh, kw, in, out), or a bias (1, 1, 1, out)
        return w.reshape(-1) if w.shape[:3] == (1, 1, 1) else np.transpose(w, (3, 2, 0, 1))
    # the dense layer reads (h, w, channels) flattened; torch flattens (channels, h, w)
    return w.reshape(5, 5, 4, -1).transpose(3, 2, 0, 1).reshape(w.shape[1], -1)


if __name__ == "__main__":
    dense = partial(stax.Dense, W_std=1.0, b_std=1.0, parameterization="ntk")
    conv = partial(stax.Conv, filter_shape=(3, 3), padding="SAME", W_std=1.0, b_std=1.0, parameterization="ntk")
    fcn = [dense(6), tanh(), dense(6), tanh(), dense(2)]
    cnn = [conv(4), tanh(), conv(4), tanh(), stax.Flatten(), dense(1, b_std=None)]
    arrays = store("fcn", fcn, (5,), linear_weight, 0) | store("cnn", cnn, (5, 5, 2), cnn_weight, 1)
    np.savez_compressed(sys.argv[1], **arrays)
