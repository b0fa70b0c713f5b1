"""The losses of docs/methods.md in PyTorch, composed of ordinary operations and written from their description:
the other side of parity_losses.py and golden_losses.py. Not needed to build or use retort.

Tensors come as a dictionary with the names of `retort loss`: student.logits, teacher.aux, ..., labels (-1 = void).
Everything is computed in the logits' own type; the checks use float64.
"""
import math

import torch
import torch.nn.functional as F

AUX = 0.4
COMPAT_KEPT = 100000
COMPAT_WEIGHTS = (0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023, 0.9539, 0.9843,
                  1.1116, 0.9037, 1.0865, 1.0955, 1.0865, 1.1529, 1.0507)      # Cityscapes, second stage
RULES = {"xor": lambda s, t: s ^ t, "or": lambda s, t: s | t, "and": lambda s, t: s & t, "student": lambda s, t: s,
         "student-not-teacher": lambda s, t: s & ~t}


def up(x, size):
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def cross_entropy(x, labels):
    """B x H x W; 0 where void."""
    return F.cross_entropy(up(x, labels.shape[1:]), labels, ignore_index=-1, reduction="none")


def label_probability(x, labels):
    """q of every pixel, B x H x W; of void pixels meaningless."""
    p = F.softmax(up(x, labels.shape[1:]), 1)
    return p.gather(1, labels.clamp(min=0)[:, None])[:, 0]


def kl(p, q):
    """KL(softmax(p) || softmax(q)) over the classes: B x h x w."""
    return F.kl_div(F.log_softmax(q, 1), F.log_softmax(p, 1), reduction="none", log_target=True).sum(1)


def mean_over(mask, x, labels, class_weights=None):
    """sum over mask of c CE / sum over mask of c, 0 when there is nothing to divide by."""
    c = torch.ones(x.shape[1], dtype=x.dtype) if class_weights is None else torch.tensor(class_weights, dtype=x.dtype)
    w = c[labels.clamp(min=0)] * mask
    return (w * cross_entropy(x, labels)).sum() / w.sum() if w.sum() > 0 else 0 * x.sum()


def heads(t, loss):
    """loss(main logits) + 0.4 loss(auxiliary logits) of the student; the index tells which."""
    out = loss(0, t["student.logits"])
    return out + AUX * loss(1, t["student.aux"]) if "student.aux" in t else out


def kept_at_least(labels, fraction=0.0477, count=0):
    valid = int((labels >= 0).sum())
    return min(count, valid) if count else max(1, math.floor(fraction * valid))


def threshold(q, labels, theta, k, void_sorted):
    """max(theta, k-th smallest q of the valid pixels); void_sorted: void pixels take part with q = 1."""
    q = torch.where(labels >= 0, q, torch.ones_like(q)).flatten() if void_sorted else q[labels >= 0]
    return max(theta, q.kthvalue(k).values.item()) if k and len(q) else theta


def hard(x, labels, theta, k, void_sorted=False):
    q = label_probability(x, labels)
    return (labels >= 0) & (q <= threshold(q, labels, theta, k, void_sorted))


def ce(t, class_weights=None):
    return heads(t, lambda _, x: mean_over(t["labels"] >= 0, x, t["labels"], class_weights))


def ohem(t, theta=0.7, min_kept_fraction=0.0477, min_kept_count=0, class_weights=None):
    y = t["labels"]
    k = kept_at_least(y, min_kept_fraction, min_kept_count)
    return heads(t, lambda _, x: mean_over(hard(x.detach(), y, theta, k), x, y, class_weights))


def kd(t, tau=1, mask="none"):
    s, teacher, y = t["student.logits"], t["teacher.logits"], t.get("labels")
    if s.shape[2:] != teacher.shape[2:]:
        s = up(s, teacher.shape[2:])
    d = kl(teacher / tau, s / tau)
    if mask == "valid":
        rows, cols = ([round(i * (full - 1) / (low - 1)) if low > 1 else 0 for i in range(low)]
                      for full, low in zip(y.shape[1:], s.shape[2:]))
        valid = y[:, rows][:, :, cols] >= 0
        return tau**2 * (d * valid).sum() / valid.sum() if valid.any() else 0 * s.sum()
    return tau**2 * d.mean()


def easiness(t, tfe):
    """w on the teacher's grid, B x 1 x h x w."""
    main = t["teacher.logits"]
    if tfe == "entropy":
        entropy = -(F.softmax(main, 1) * F.log_softmax(main, 1)).sum(1, keepdim=True)
        return 1 - entropy / math.log(main.shape[1])
    return torch.exp(-kl(t["teacher." + tfe], main))[:, None]


def rdd_tfe(t, tfe="aux", compat=None, **unused):
    y = t["labels"]
    w = up(easiness(t, tfe), y.shape[1:])[:, 0]
    z = y.numel() if compat else max(1, int((y >= 0).sum()))
    return heads(t, lambda _, x: (w * cross_entropy(x, y)).sum() / z)


def rdd_tse(t, rule="xor", theta=0.7, min_kept_fraction=0.0477, min_kept_count=0, class_weights=None, compat=None, **unused):
    y = t["labels"]
    teacher = [t["teacher.logits"], t.get("teacher.aux", t["teacher.logits"])]
    if compat:
        k = min_kept_count or COMPAT_KEPT
        if k > (y >= 0).sum():
            raise ValueError("fewer valid pixels than compat keeps")
        if class_weights is None and teacher[0].shape[1] == len(COMPAT_WEIGHTS):
            class_weights = COMPAT_WEIGHTS
    else:
        k = kept_at_least(y, min_kept_fraction, min_kept_count)

    def one(head, x):
        pair = [hard(z, y, theta, k, bool(compat)) for z in (x.detach(), teacher[head])]
        return mean_over(RULES[rule](*pair), x, y, class_weights)
    return heads(t, one)


LOSSES = {"ce": ce, "ohem": ohem, "kd": kd, "rdd-tfe": rdd_tfe, "rdd-tse": rdd_tse}


def value_and_gradients(method, tensors, options, dtype=torch.float64):
    """tensors: numpy arrays. (value, {student tensor: gradient}) as numpy float64."""
    t = {n: torch.from_numpy(v).long() if n == "labels" else torch.from_numpy(v).to(dtype) for n, v in tensors.items()}
    student = {n: v.requires_grad_() for n, v in t.items() if n.startswith("student.")}
    loss = LOSSES[method](t, **options)
    grads = torch.autograd.grad(loss, list(student.values()), allow_unused=True)
    return loss.item(), {n: (torch.zeros_like(v) if g is None else g).double().numpy() for (n, v), g in zip(student.items(), grads)}
