"""One training step and one evaluation step, seen from a single device.

Both are SPMD functions: they see one device's state and its share of the batch, and reduce over
`parallel.AXIS` what has to be global. Losses and metrics leave as {name: (sum, count)} over the
whole global batch, so nothing depends on how many devices or hosts there are.
"""

import jax
import jax.numpy as jnp
import optax

from luab_jax.evaluate import metrics
from luab_jax.models import losses, normalise
from luab_jax.runtime.parallel import AXIS


def make_train_step(
  model, optimizer, *, spec, loss, schedule, point_weight, ema_decay, accum, skip_nan=False
):
  """Builds `step(state, batch) -> (state, sums)` for one device.

  Args:
    model: Flax module, see `luab_jax.models`.
    optimizer: optax transformation.
    spec: `pipeline.DatasetSpec`.
    loss: `config.loss`.
    schedule: learning rate as a function of the step.
    point_weight: λ as a function of the step.
    ema_decay: of the averaged parameters; 0 for none.
    accum: micro-batches a step; the gradient is that of the whole batch.
    skip_nan: a step whose loss or gradient is not finite changes nothing but the step's number and
      is counted in `skipped`; its other sums are left out.
  Returns:
    A function of a TrainState and the device's batch (see the batch contract in
    `pipeline`), to be mapped by `parallel.pmap_step`.
  """

  def step(state, batch):
    # The counts do not depend on the parameters: known before, they make the loss of every
    # micro-batch and device a share of the one global loss, whose gradients simply add up.
    examples, points = jax.lax.psum((batch['example_mask'].sum(), _point_mask(batch).sum()), AXIS)
    examples, points = jnp.maximum(examples, 1), jnp.maximum(points, 1)
    weight = jnp.asarray(point_weight(state.step), jnp.float32)

    def share_of_loss(params, batch_stats, part):
      output, updated = model.apply(
        {'params': params, 'batch_stats': batch_stats},
        part['image'],
        train=True,
        mutable=['batch_stats'],
      )
      sums = _batch_sums(output, part, spec, loss)
      value = sums['class_loss'][0] / examples + weight * sums['point_loss'][0] / points
      return value, (updated.get('batch_stats', {}), sums)

    differentiate = jax.grad(share_of_loss, has_aux=True)

    def accumulate(carry, part):
      gradient, batch_stats, sums = carry
      more, (batch_stats, new) = differentiate(state.params, batch_stats, part)
      return (_add(gradient, more), batch_stats, _add(sums, new)), None

    parts = jax.tree.map(lambda x: x.reshape((accum, x.shape[0] // accum) + x.shape[1:]), batch)
    first = jax.tree.map(lambda x: x[0], parts)
    gradient, (batch_stats, sums) = differentiate(state.params, state.batch_stats, first)
    if accum > 1:
      rest = jax.tree.map(lambda x: x[1:], parts)
      (gradient, batch_stats, sums), _ = jax.lax.scan(
        accumulate, (gradient, batch_stats, sums), rest
      )
    gradient, sums = jax.lax.psum((gradient, sums), AXIS)
    # Devices normalise with their own statistics; the running averages are kept equal, so that
    # evaluation and checkpoints need no extra step. One small all-reduce.
    batch_stats = jax.lax.pmean(batch_stats, AXIS)

    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema_params = state.ema_params
    if ema_decay:
      ema_params = optax.incremental_update(params, state.ema_params, 1 - ema_decay)
    total = sums['class_loss'][0] / examples + weight * sums['point_loss'][0] / points
    sums |= {
      'loss': (total, 1.0),
      'grad_norm': (optax.global_norm(gradient), 1.0),
      'learning_rate': (jnp.asarray(schedule(state.step), jnp.float32), 1.0),
      'point_weight': (weight, 1.0),
    }
    new = state.replace(
      step=state.step + 1,
      params=params,
      batch_stats=batch_stats,
      opt_state=opt_state,
      ema_params=ema_params,
    )
    return _skip_unless_finite(state, new, sums) if skip_nan else (new, sums)

  return step


def _skip_unless_finite(state, new, sums):
  """(the next state, sums), where a step that is not finite changed but the steps' numbers."""
  finite = jnp.isfinite(sums['loss'][0]) & jnp.isfinite(sums['grad_norm'][0])
  for leaf in jax.tree.leaves((new.params, new.batch_stats)):
    finite &= jnp.isfinite(leaf).all()

  def choose(after, before):
    if isinstance(after, optax.ScaleByScheduleState):  # the learning rate goes on with the steps
      return after
    return jax.tree.map(lambda a, b: jnp.where(finite, a, b), after, before)

  new = jax.tree.map(
    choose,
    new,
    state.replace(step=new.step),
    is_leaf=lambda node: isinstance(node, optax.ScaleByScheduleState),
  )
  sums = jax.tree.map(lambda value: jnp.where(finite, value, 0.0), sums)
  return new, {**sums, 'skipped': (1.0 - finite, 1.0)}


def make_eval_step(model, *, spec, loss):
  """Builds `step(variables, batch) -> (sums, scores, local)` for one device.

  `local` holds what localisation needs of the device's own examples: `maps`, see `place_maps`,
  and, for single-label sets, `right` bool[B], whether the predicted class is the label.

  `sums` are global. `scores` holds, for multi-label sets alone, the logits, labels and example
  masks of the whole global batch ([devices, B / devices, …]) and, if the batch has them, the
  groups of the labels, from which mAP is computed exactly.
  """

  def step(variables, batch):
    output = model.apply(variables, batch['image'], train=False)
    sums = jax.lax.psum(_batch_sums(output, batch, spec, loss), AXIS)
    scores = {}
    if spec.multi_label:
      scores = {
        'score': output['logits'],
        'label': batch['label'],
        'mask': batch['example_mask'],
        **{name: batch[name] for name in ('size_group', 'icon_group') if name in batch},
      }
      scores = jax.lax.all_gather(scores, AXIS)
    local = {'maps': place_maps(variables, output, batch['label'], multi_label=spec.multi_label)}
    if not spec.multi_label:
      local['right'] = output['logits'].argmax(-1) == batch['label']
    return sums, scores, local

  return step


def make_answer_step(model):
  """Builds `step(variables, batch) -> sums` for one device and `pipeline.answer_batches`.

  The sums are global: top1 and top5 of `metrics.answer_sums`.
  """

  def step(variables, batch):
    output = model.apply(variables, batch['image'], train=False)
    return jax.lax.psum(metrics.answer_sums(output['logits'], batch), AXIS)

  return step


def make_foreground_step(model):
  """Builds `step((variables, backgrounds), foreground) -> bool` for one device.

  Whether the model is right about a foreground on each of the backgrounds: the Backgrounds
  Challenge (Xiao et al. 2020, arXiv:2006.09994, section 4). It ends at the first batch of
  backgrounds that fools the model, on all devices together.

  `backgrounds` holds the device's share of N batches: image u8[N,b,S,S,3], example_mask f32[N,b].
  `foreground` is the same on all devices: image u8[S,S,3], mask f32[S,S,1], right bool[C].
  """

  def step(fixed, foreground):
    variables, backgrounds = fixed
    mask = foreground['mask']

    def go_on(carry):
      number, fooled = carry
      return (number < backgrounds['image'].shape[0]) & (fooled == 0)

    def next_batch(carry):
      number, _ = carry
      background, shown = (
        normalise(image, model.normalisation)
        for image in (backgrounds['image'][number], foreground['image'])
      )
      image = background * (1 - mask) + shown * mask
      logits = model.apply(variables, image, train=False)['logits']
      wrong = ~foreground['right'][logits.argmax(-1)] * backgrounds['example_mask'][number]
      return number + 1, jax.lax.psum(wrong.sum(), AXIS)

    _, fooled = jax.lax.while_loop(go_on, next_batch, (0, jnp.float32(0)))
    return fooled == 0

  return step


def place_maps(variables, output, label, *, multi_label):
  """What a model tells of the place of an object of the right class, on its last grid.

  Args:
    variables, output: of the model.
    label: i32[B]; not used with `multi_label`.
    multi_label: all classes' maps instead of the label's alone.

  Returns:
    Dict of f32[B,h,w,1], with `multi_label` f32[B,h,w,C]:
      cam: the class activation map (Zhou et al. 2016, arXiv:1512.04150), the classifier's kernel
        applied to each cell. With the linear head on a convolutional net its mean over the grid
        is the logit but for the bias. A ViT's linear head reads the class token, so there the same
        kernel on the patch tokens is an approximation. With the spatial head the logit is the
        map's mean weighted with the attention.
      attention (spatial head only): its map, the mean of its maps for a trace.
  """
  kernel = variables['params']['head']['classifier']['kernel']
  features = output['features'].astype(jnp.float32)
  if multi_label:
    maps = {'cam': features @ kernel}
  else:
    maps = {'cam': jnp.einsum('bhwd,db->bhw', features, kernel[:, label])[..., None]}
  if 'attention' in output:
    attention = output['attention']
    maps['attention'] = attention if multi_label else attention.mean(-1, keepdims=True)
  return maps


def mean_metrics(sums: dict, *, image_size: int) -> dict[str, float]:
  """Divides {name: (sum, count)}; a metric without a single count is left out.

  Args:
    sums: over any number of steps or batches.
    image_size: side of the model's input in pixels; adds the click error in such pixels.
  """
  means = {name: float(total) / float(count) for name, (total, count) in sums.items() if count}
  if 'click_error' in means:
    means['click_error_px'] = means['click_error'] * image_size
  return means


def _batch_sums(output, batch, spec, loss):
  return {
    'class_loss': losses.classification_sum(
      output['logits'],
      batch['label'],
      batch['example_mask'],
      multi_label=spec.multi_label,
      label_smoothing=loss.label_smoothing,
    ),
    'point_loss': losses.point_sum(
      output['points'],
      batch['point'],
      _point_mask(batch),
      kind=loss.point_loss,
      beta=loss.smooth_l1_beta,
    ),
    **metrics.batch_sums(output, batch, multi_label=spec.multi_label),
  }


def _point_mask(batch):
  return batch['point_mask'] * batch['example_mask'][:, None]


def _add(left, right):
  return jax.tree.map(jnp.add, left, right)
