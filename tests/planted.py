"""Faults that people make, and the fast tests that have to catch each: `plant_faults.py`."""

from typing import NamedTuple


class Fault(NamedTuple):
    """file: of the package; before: what stands there once; after: what takes its place.

    tests: files, folders or single tests below tests/, in the order in which they are run.
    """

    file: str
    before: str
    after: str
    tests: tuple[str, ...]


FAULTS = [
    # kernels: a factor, a sign, an axis, a mask, a device
    Fault(
        "losses/contrastive.py",
        "own = own + jax.lax.axis_index(axis_name) * batch\n    if block_size is None",
        "own = own + 0\n    if block_size is None",
        ("losses/test_multi_device.py",),
    ),
    Fault(
        "losses/contrastive.py",
        "total = total * jnp.exp(peak - new_peak) + jnp.exp(",
        "total = total + jnp.exp(",
        ("losses/test_contrastive.py",),
    ),
    Fault(
        "losses/_kernel.py",
        "total = total * jax.lax.axis_size(axis_name)",
        "total = total * 1",
        ("losses/test_multi_device.py",),
    ),
    Fault(
        "losses/_kernel.py",
        "scaled * jax.lax.rsqrt(jnp.where(nonzero, squared, 1))",
        "scaled * jax.lax.rsqrt(squared)",
        ("losses/test_contrastive.py",),
    ),
    Fault(
        "losses/_kernel.py",
        "return leaf.astype(jnp.int32) if leaf.dtype.itemsize < 4 else leaf",
        "return leaf",
        ("losses/test_every_kernel.py::test_narrow_integers_count_as_wide_ones",),
    ),
    Fault(
        "losses/quantization.py",
        "score = jnp.expand_dims(half_norm, lead) - similarity",
        "score = 2 * jnp.expand_dims(half_norm, lead) - similarity",
        ("losses/test_quantization.py",),
    ),
    Fault(
        "losses/quantization.py",
        "others = jnp.sum(weights, axis=0, keepdims=True) - weights",
        "others = jnp.sum(weights, axis=0, keepdims=True)",
        ("losses/test_quantization.py",),
    ),
    Fault(
        "losses/quantization.py",
        "counts, sums = jax.lax.psum((counts, sums), axis_name)",
        "counts, sums = jax.lax.pmean((counts, sums), axis_name)",
        ("losses/test_multi_device.py",),
    ),
    Fault(
        "losses/quantization.py",
        "count=jnp.where(restart, 1, state.count),",
        "count=state.count,",
        ("losses/test_quantization.py",),
    ),
    Fault(
        "losses/volume.py",
        'rest = rest - dot(anchors, direction, "id,jd->ij", precision="highest") ** 2',
        'rest = square - dot(anchors, direction, "id,jd->ij", precision="highest") ** 2',
        ("losses/test_volume.py",),
    ),
    Fault(
        "losses/volume.py",
        "rest -= _inner(direction, rest)[..., None] * direction",
        "rest -= 0 * direction",
        ("losses/test_volume.py",),
    ),
    Fault(
        "losses/transport.py",
        "rows = (2 / epsilon * x, jnp.sum(x * x, axis=-1) / epsilon)",
        "rows = (1 / epsilon * x, jnp.sum(x * x, axis=-1) / epsilon)",
        ("losses/test_transport.py",),
    ),
    Fault(
        "losses/transport.py",
        "x = jnp.where(row[:, None] > 0, x, 0).astype(row.dtype)",
        "x = x.astype(row.dtype)",
        ("losses/test_transport.py",),
    ),
    Fault(
        "losses/evidential.py",
        "strength = jnp.sum(evidence, axis=-1) + evidence.shape[-1]",
        "strength = jnp.sum(evidence, axis=-1) + 1",
        ("losses/test_evidential.py",),
    ),
    Fault(
        "losses/jigsaw.py",
        "passed = (later >= result[:, i : i + 1])",
        "passed = (later > result[:, i : i + 1])",
        ("losses/test_jigsaw.py",),
    ),
    Fault(
        "losses/open_auc.py",
        "mixed = rows & other_row & (labels != other_label)",
        "mixed = rows & other_row",
        ("losses/test_open_auc.py",),
    ),
    Fault(
        "losses/discrepancy.py",
        "pairs = count**2 if biased else count * (count - 1)",
        "pairs = count**2",
        ("losses/test_discrepancy.py",),
    ),
    Fault(
        "losses/prototypes.py",
        "+ 0.5 * weight * _at(distances, labels)",
        "+ weight * _at(distances, labels)",
        ("losses/test_prototypes.py",),
    ),
    # metrics: ties, averages, ends of ranges
    Fault(
        "metrics/retrieval.py",
        "return 1 + self.ahead + self.tied / (self.relevant + 1)",
        "return 1 + self.ahead + self.tied / 2",
        ("metrics",),
    ),
    Fault(
        "metrics/retrieval.py",
        "places = np.clip(k - ranks.ahead, 0, ranks.tied + 1)",
        "places = np.clip(k - ranks.ahead, 0, ranks.tied)",
        ("metrics",),
    ),
    Fault(
        "metrics/open_set.py",
        "os = float((recalls.sum() + unk) / (len(recalls) + 1))",
        "os = float((recalls.mean() + unk) / 2)",
        ("metrics",),
    ),
    Fault(
        "metrics/ranking.py",
        'below = xp.searchsorted(unknown, known, side="left")',
        'below = xp.searchsorted(unknown, known, side="right")',
        ("metrics",),
    ),
    Fault(
        "metrics/ranking.py",
        'return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")',
        'return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="right")',
        ("metrics",),
    ),
    Fault(
        "metrics/classification.py",
        "best = np.max(",
        "best = np.mean(",
        ("metrics",),
    ),
    # data: order, absence, leaks between parts
    Fault(
        "data/pipeline.py",
        "key = np.array([seed, epoch], np.uint64)",
        "key = np.array([seed, 0], np.uint64)",
        ("data/test_batches.py",),
    ),
    Fault(
        "data/pipeline.py",
        "first = place * batch_size + process_index * share",
        "first = place * batch_size",
        ("data/test_batches.py",),
    ),
    Fault(
        "data/pipeline.py",
        "        out[~present] = 0\n",
        "",
        ("data/test_batches.py",),
    ),
    Fault(
        "data/channel_statistics.py",
        "rows = np.flatnonzero(feature_set.train & feature_set.present[modality])",
        "rows = np.flatnonzero(feature_set.present[modality])",
        ("data/test_standardization.py",),
    ),
    Fault(
        "data/held_out.py",
        "held[rows[: round(share * len(rows))]] = True",
        "held[rows[: 1 + round(share * len(rows))]] = True",
        ("data/test_held_out.py",),
    ),
    Fault(
        "data/correspondence_noise.py",
        "source[m][chosen] = np.roll(chosen, 1)",
        "source[m][chosen] = rng.permutation(chosen)",
        ("data/test_correspondence_noise.py",),
    ),
    Fault(
        "data/resident.py",
        "order = epoch_order(len(runs), seed, epoch + (place << 32))",
        "order = epoch_order(len(runs), seed, epoch)",
        ("data/test_resident.py",),
    ),
    # checkpoints and logs: damage, other runs, what is lost
    Fault(
        "train/checkpoints.py",
        "if found.get(name) != hashes.get(name):",
        "if False:",
        ("attacks/test_checkpoint_damage.py",),
    ),
    Fault(
        "train/checkpoints.py",
        "for step in sorted(self._manager.all_steps(), reverse=True):",
        "for step in sorted(self._manager.all_steps()):",
        ("train/test_loop.py",),
    ),
    Fault(
        "train/checkpoints.py",
        'different = difference(note["identity"] or {}, self._identity.facts())',
        'different = ""',
        ("attacks/test_checkpoint_damage.py",),
    ),
    Fault(
        "train/logs.py",
        'if row["step"] <= step)',
        "if True)",
        ("train/test_logs.py",),
    ),
    Fault(
        "workdir.py",
        'return same and found == _sealed(content) and found["count"] > 0',
        'return same and found["count"] > 0',
        ("test_workdir.py",),
    ),
    # training: randomness, devices, clipping
    Fault(
        "train/step.py",
        "key = jax.random.fold_in(jax.random.key(train_state.seed), train_state.step + 1)",
        "key = jax.random.fold_in(jax.random.key(train_state.seed), 1)",
        ("train/test_loop.py",),
    ),
    Fault(
        "train/step.py",
        "due = train_state.step % method.refresh_every == 0",
        "due = train_state.step == 0",
        ("train/test_fit.py",),
    ),
    Fault(
        "train/optimizer.py",
        "scale[part] = jnp.minimum(1.0, clip / (norm + 1e-6))",
        "scale[part] = clip / (norm + 1e-6)",
        ("methods/test_official.py",),
    ),
    Fault(
        "train/loop.py",
        "if (saved.step if saved else 0) >= steps:",
        "if (saved.step if saved else 0) > steps:",
        ("train/test_loop.py",),
    ),
    # methods: means, what is hidden, when a term begins
    Fault(
        "methods/mover.py",
        'terms["contrast"] = sum(means) / len(means)',
        'terms["contrast"] = sum(means)',
        (
            "methods/test_mover.py::test_without_transport_and_volume_it_is_the_mean_infonce_of_all_pairs",
        ),
    ),
    Fault(
        "methods/micu.py",
        "keep = lambda key: jax.random.bernoulli(key, 1 - self.mask_ratio, shape)",
        "keep = lambda key: jax.random.bernoulli(key, self.mask_ratio, shape)",
        (
            "methods/test_micu.py::test_mask_drops_a_share_of_steps_or_dimensions_shared_by_modalities_or_not",
        ),
    ),
    Fault(
        "methods/cmcm.py",
        'begun = (state["step"] >= self.warm_start)',
        'begun = (state["step"] > self.warm_start)',
        ("methods/test_cmcm.py::test_codes_have_no_part_in_the_loss_until_the_warm_start_is_over",),
    ),
    # evaluation: what must not be seen, what chance and an interval are
    Fault(
        "evaluation/probe.py",
        "logits = jnp.where(allowed[None], self.logits(params, table, indices[rows]), -1e9)",
        "logits = self.logits(params, table, indices[rows])",
        ("tasks/test_generalization.py",),
    ),
    Fault(
        "evaluation/intervals.py",
        "statistics.stdev(values) / math.sqrt(count)",
        "statistics.pstdev(values) / math.sqrt(count)",
        ("evaluation/test_intervals.py",),
    ),
    Fault(
        "evaluation/ranks.py",
        "ranks = rankdata(-table, axis=1).mean(0)",
        "ranks = rankdata(table, axis=1).mean(0)",
        ("evaluation/test_ranks.py",),
    ),
    Fault(
        "tasks/few_label/task.py",
        "test = np.flatnonzero(~data.train & data.present[m] & (data.label >= 0))",
        "test = np.flatnonzero(data.present[m] & (data.label >= 0))",
        ("tasks/test_few_label.py",),
    ),
    Fault(
        "tasks/oom/split.py",
        "rest = np.flatnonzero(inside & ~paired)",
        "rest = np.flatnonzero(inside)",
        ("tasks/test_oom_split.py",),
    ),
    Fault(
        "tasks/mmosr/split.py",
        "missing = missing - counts[g]",
        "missing = missing",
        ("tasks/test_mmosr_split.py",),
    ),
]
