"""The losses of docs/methods.md in PyTorch, composed of ordinary operations and written from their description:
the other side of parity_losses.py and golden_losses.py. Not needed to build or use retort.

Tensors come as a dictionary with the names of `retort loss`: student.logits, teacher.aux, ..., labels (-1 = void).
Everything is computed in the logits' own type; the checks use float64.
"""
import math

import numpy as np
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


def kept_at_least(labels, fraction=0.0477, count=0, scope="batch"):
    if scope == "image":
        return [kept_at_least(y, fraction, count) for y in labels]
    valid = int((labels >= 0).sum())
    return min(count, valid) if count else max(1, math.floor(fraction * valid))


def threshold(q, labels, theta, k, void_sorted):
    """max(theta, k-th smallest q of the valid pixels); void_sorted: void pixels take part with q = 1."""
    q = torch.where(labels >= 0, q, torch.ones_like(q)).flatten() if void_sorted else q[labels >= 0]
    return max(theta, q.kthvalue(k).values.item()) if k and len(q) else theta


def hard(x, labels, theta, k, void_sorted=False):
    q = label_probability(x, labels)
    if isinstance(k, list):                  # of each image
        return torch.stack([(y >= 0) & (p <= threshold(p, y, theta, n, void_sorted)) for p, y, n in zip(q, labels, k)])
    return (labels >= 0) & (q <= threshold(q, labels, theta, k, void_sorted))


def ce(t, class_weights=None):
    return heads(t, lambda _, x: mean_over(t["labels"] >= 0, x, t["labels"], class_weights))


def ohem(t, theta=0.7, min_kept_fraction=0.0477, min_kept_count=0, class_weights=None, min_kept_scope="batch"):
    y = t["labels"]
    k = kept_at_least(y, min_kept_fraction, min_kept_count, min_kept_scope)
    return heads(t, lambda _, x: mean_over(hard(x.detach(), y, theta, k), x, y, class_weights))


def regions(t, loss, class_weights):
    """Weighted mean over the classes that occur of loss(p_k, y = k) on the labelled pixels."""
    y = t["labels"]
    valid = y >= 0
    present = y[valid].unique()

    def one(_, x):
        if not len(present):
            return 0 * x.sum()
        p = F.softmax(up(x, y.shape[1:]), 1).transpose(0, 1)[:, valid]
        c = torch.ones(len(p), dtype=x.dtype) if class_weights is None else torch.tensor(class_weights, dtype=x.dtype)
        return sum(c[k] * loss(p[k], (y[valid] == k).to(x.dtype)) for k in present) / c[present].sum()
    return heads(t, one)


def dice(t, smooth=1, class_weights=None):
    return regions(t, lambda p, own: 1 - (2 * (p * own).sum() + smooth) / (p.sum() + own.sum() + smooth), class_weights)


def lovasz(t, class_weights=None):
    def one(p, own):
        errors, order = torch.sort((own - p).abs(), descending=True, stable=True)
        own = own[order]
        jaccard = 1 - (own.sum() - own.cumsum(0)) / (own.sum() + (1 - own).cumsum(0))
        return (errors * torch.diff(jaccard, prepend=torch.zeros(1, dtype=p.dtype))).sum()
    return regions(t, one, class_weights)


def corners(labels, grid):
    """Labels on a low grid: row round(i (H - 1) / (h - 1)), halves to even; h = 1: row 0."""
    rows, cols = ([round(i * (full - 1) / (low - 1)) if low > 1 else 0 for i in range(low)] for full, low in zip(labels.shape[1:], grid))
    return labels[:, rows][:, :, cols]


def counted(t, mask, grid, batch):
    """Which positions of the low grid count: B x h x w."""
    return corners(t["labels"], grid) >= 0 if mask == "valid" else torch.ones((batch, *grid), dtype=torch.bool)


def line_up(t, student, teacher, adapt=False):
    """The student's map with the teacher's channels and grid."""
    if adapt and student.shape[1] != teacher.shape[1]:
        student = F.conv2d(student, t["adapter.weight"])
    return student if student.shape[2:] == teacher.shape[2:] else up(student, teacher.shape[2:])


def kd(t, tau=1, mask="none"):
    teacher = t["teacher.logits"]
    s = line_up(t, t["student.logits"], teacher)
    d, m = kl(teacher / tau, s / tau), counted(t, mask, s.shape[2:], len(s))
    return tau**2 * (d * m).sum() / m.sum() if m.any() else 0 * s.sum()


def unit(v, dim=-1):
    return F.normalize(v, dim=dim, eps=1e-12)


def at(t, norm="mean", mask="none", tap="features"):
    teacher = t["teacher." + tap]
    s = line_up(t, t["student." + tap], teacher)
    m = counted(t, mask, s.shape[2:], len(s)).flatten(1)
    d = (unit((s**2).mean(1).flatten(1) * m) - unit((teacher**2).mean(1).flatten(1) * m))**2
    count = m.any(1).sum() if norm == "image" else m.sum()
    return d.sum() / count if count else 0 * s.sum()


def fitnet(t, mask="none", tap="features"):
    teacher = t["teacher." + tap]
    s = line_up(t, t["student." + tap], teacher, adapt=True)
    m = counted(t, mask, s.shape[2:], len(s))[:, None]
    return ((s - teacher)**2 * m).sum() / (m.sum() * s.shape[1]) if m.any() else 0 * s.sum()


def cwd(t, tap="logits", tau=4, mask="none", compat=None):
    teacher = t["teacher." + tap]
    before = t["student." + tap]
    s = line_up(t, before, teacher, adapt=True)
    total = 0 * s.sum()
    for own, there, m in zip(s, teacher, counted(t, mask, s.shape[2:], len(s))):
        if m.any():
            total = total + F.kl_div(F.log_softmax(own[:, m] / tau, 1), F.log_softmax(there[:, m] / tau, 1), reduction="sum", log_target=True)
    return tau**2 * total / (len(s) * (before if compat else s).shape[1])


def skd_pa(t, mask="none", tap="features"):
    teacher = t["teacher." + tap]
    maps = [F.max_pool2d(x, 2, 2, ceil_mode=True) for x in (line_up(t, t["student." + tap], teacher), teacher)]
    m = counted(t, mask, maps[0].shape[2:], len(teacher)).flatten(1)
    x = [unit(y, 1).flatten(2) * m[:, None] for y in maps]
    g = [y.transpose(1, 2) @ y for y in x]
    pairs = (m.sum(1)**2).sum()
    return ((g[0] - g[1])**2).sum() / pairs if pairs else 0 * maps[0].sum()


def cirkd_batch(s, teacher, tau):
    x = [unit(y, 1).flatten(2) for y in (s, teacher)]
    total = 0
    for i in range(len(s)):
        for j in range(len(s)):
            a, b = (F.log_softmax(y[i].T @ y[j] / tau, 1) for y in x)
            total = total + F.kl_div(a, b, reduction="batchmean", log_target=True)
    return total / len(s)**2


def cirkd_memory(t, s, teacher, tau, queue):
    """Against all filled entries of a queue: pixels or regions."""
    x = F.conv2d(s, t["projection.0.weight"])
    x = F.relu(F.batch_norm(x, None, None, t["projection.1.weight"], t["projection.1.bias"], training=True))
    y = nearest(t["labels"], teacher.shape[2:])
    own, there = (unit(z, 1).permute(0, 2, 3, 1)[y >= 0] for z in (F.conv2d(x, t["projection.3.weight"]), teacher))
    entries = torch.cat([e[:n] for e, n in zip(t[queue + ".entries"], t[queue + ".count"])])
    if not len(own) or not len(entries):
        return 0 * s.sum()
    a, b = (F.log_softmax(z @ entries.T / tau, 1) for z in (own, there))
    return F.kl_div(a, b, reduction="batchmean", log_target=True)


def cirkd(t, tau=0.1, tap="features", minibatch=1, pixel=1, region=1, memory="on", **sizes):
    teacher = t["teacher." + tap]
    s = line_up(t, t["student." + tap], teacher)
    total = minibatch * cirkd_batch(s, teacher, tau) if minibatch else 0 * s.sum()
    for weight, queue in ((pixel, "pixels"), (region, "regions")):
        if memory == "on" and weight:
            total = total + weight * cirkd_memory(t, s, teacher, tau, queue)
    return total


KINK = [math.inf]       # how near any value came to the kink of a piecewise linear function, since this was last reset


def note_kink(x):
    KINK[0] = min(KINK[0], x.detach().abs().min().item())


def hinge(x):
    note_kink(1 + x)
    return F.relu(1 + x).mean()


def discriminator(t, x):
    """Scores of maps of logits; parameters are called discriminator.NAME."""
    def p(name):
        return t["discriminator." + name]

    def attention(x, name):
        q, k, v = (F.conv2d(x, p(f"{name}.{n}.weight"), p(f"{name}.{n}.bias")).flatten(2) for n in ("query", "key", "value"))
        a = F.softmax(q.transpose(1, 2) @ k, 2)
        return p(name + ".gamma") * (v @ a.transpose(1, 2)).view_as(x) + x
    side = min(x.shape[2:])
    if side < 64:
        x = up(x, [round(n * 64 / side) for n in x.shape[2:]])
    x = F.batch_norm(x, None, None, p("bn.weight"), p("bn.bias"), training=True)
    for i in range(1, 5):
        w = p(f"conv{i}.weight")
        flat = w.detach().flatten(1)
        v = unit(flat.T @ p(f"conv{i}.u").detach())
        u = unit(flat @ v)
        x = F.conv2d(x, w / (u @ w.flatten(1) @ v), p(f"conv{i}.bias"), 2, 1)
        note_kink(x)
        x = F.leaky_relu(x, 0.1)
        if i > 2:
            x = attention(x, f"attention{i - 2}")
    return F.conv2d(x, p("last.weight"), p("last.bias"))


def skd_ho(t):
    frozen = t | {n: v.detach() for n, v in t.items() if n.startswith("discriminator.")}
    return -discriminator(frozen, line_up(t, t["student.logits"], t["teacher.logits"])).mean()


def skd_ho_discriminator(t):
    s = line_up(t, t["student.logits"], t["teacher.logits"])
    return hinge(-discriminator(t, t["teacher.logits"])) + hinge(discriminator(t, s))


def nearest(labels, grid):
    return F.interpolate(labels[:, None].double(), size=tuple(grid), mode="nearest")[:, 0].long()


def ifvd(t, tap="features", compat=None):
    teacher = t["teacher." + tap]
    s = line_up(t, t["student." + tap], teacher)
    y = nearest(t["labels"], s.shape[2:])

    def cosines(f):
        """Of the labelled positions, to the mean of their class in their image."""
        out = []
        for x, labels in zip(f, y):
            for k in labels[labels >= 0].unique():
                own = x[:, labels == k]
                out.append(F.cosine_similarity(own, (own.sum(1) / (own.shape[1] + 1e-6))[:, None], dim=0, eps=1e-8))
        return torch.cat(out)
    if not (y >= 0).any():
        return 0 * s.sum()
    d = (cosines(s) - cosines(teacher))**2
    return d.sum() / y.numel() if compat else d.mean()


def dsd(t, psd=1, csd=1, taps=("mid", "features", "logits"), tau=4, mask="none"):
    total, pairs = 0, [(i, k) for i in range(len(taps)) for k in range(i + 1, len(taps))]
    for i, k in pairs if psd else ():
        grids = [t["teacher." + taps[n]].shape[2:] for n in (i, k)]
        grid = grids[1] if grids[1].numel() < grids[0].numel() else grids[0]
        m = counted(t, mask, grid, len(t["labels"])).flatten(1)

        def vector(who):
            maps = [line_up(t, (t[f"{who}.{taps[n]}"]**2).mean(1, keepdim=True), torch.empty(1, 1, *grid)) for n in (i, k)]
            a, b = (unit(x.flatten(1) * m) for x in maps)
            return unit(a - b)
        if m.any():
            total = total + psd * ((vector("student") - vector("teacher"))**2).sum() / m.sum() / len(pairs)
    if csd:
        teacher = t["teacher.logits"]
        maps = [F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False) for x in (line_up(t, t["student.logits"], teacher), teacher)]
        m = counted(t, mask, maps[0].shape[2:], len(teacher)).flatten(1)[:, None]
        p = [torch.where(m.any(2, keepdim=True), F.softmax((x / tau).flatten(2).masked_fill(~m, -1e30), 2), 0) for x in maps]
        g = [x @ x.transpose(1, 2) for x in p]
        total = total + csd * ((g[0] - g[1])**2).mean()
    return total


def correlation(a, b):
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-8)


def dist(t, tau=1, beta=1, gamma=1, mask="none", tap="logits"):
    teacher = t["teacher." + tap]
    s = line_up(t, t["student." + tap], teacher)
    m = counted(t, mask, s.shape[2:], len(s))
    if not m.any():
        return 0 * s.sum()
    a, b = (F.softmax(x / tau, 1).permute(0, 2, 3, 1)[m] for x in (s, teacher))
    return tau**2 * (beta * (1 - correlation(a, b).mean()) + gamma * (1 - correlation(a.T, b.T).mean()))


def easiness(t, tfe, direction="other-main"):
    """w on the teacher's grid, B x 1 x h x w."""
    main = t["teacher.logits"]
    if tfe == "entropy":
        entropy = -(F.softmax(main, 1) * F.log_softmax(main, 1)).sum(1, keepdim=True)
        return 1 - entropy / math.log(main.shape[1])
    pair = (t["teacher." + tfe], main)
    return torch.exp(-kl(*(pair if direction == "other-main" else pair[::-1])))[:, None]


def rdd_tfe(t, tfe="aux", tfe_kl="other-main", normaliser="valid", compat=None, **unused):
    y = t["labels"]
    w = up(easiness(t, tfe, tfe_kl), y.shape[1:])[:, 0]
    z = y.numel() if compat or normaliser == "all" else max(1, int((y >= 0).sum()))
    return heads(t, lambda _, x: (w * cross_entropy(x, y)).sum() / z)


def rdd_tse(t, rule="xor", theta=0.7, min_kept_fraction=0.0477, min_kept_count=0, class_weights=None, min_kept_scope="batch",
            aux_mask="own", compat=None, **unused):
    y = t["labels"]
    teacher = [t["teacher.logits"], t.get("teacher.aux", t["teacher.logits"])]
    if compat:
        k = min_kept_count or COMPAT_KEPT
        if k > (y >= 0).sum():
            raise ValueError("fewer valid pixels than compat keeps")
        if class_weights is None and teacher[0].shape[1] == len(COMPAT_WEIGHTS):
            class_weights = COMPAT_WEIGHTS
    else:
        k = kept_at_least(y, min_kept_fraction, min_kept_count, min_kept_scope)

    def one(head, x):
        own, there = (t["student.logits"], teacher[0]) if aux_mask == "main" else (x, teacher[head])
        pair = [hard(z, y, theta, k, bool(compat)) for z in (own.detach(), there)]
        return mean_over(RULES[rule](*pair), x, y, class_weights)
    return heads(t, one)


LOSSES = {"dice": dice, "lovasz": lovasz, "ce": ce, "ohem": ohem, "kd": kd, "rdd-tfe": rdd_tfe, "rdd-tse": rdd_tse, "at": at, "fitnet": fitnet, "ifvd": ifvd, "cwd": cwd,
          "dsd": dsd, "dist": dist, "skd.pa": skd_pa,
          "cirkd": cirkd, "skd.ho": skd_ho, "skd.ho-discriminator": skd_ho_discriminator}


def value_and_gradients(method, tensors, options, dtype=torch.float64):
    """tensors: numpy arrays. (value, {student tensor or parameter: gradient}) as numpy float64."""
    t = {n: torch.from_numpy(v).to(dtype) if v.dtype in (np.float32, np.float16) else torch.from_numpy(v).long() for n, v in tensors.items()}
    wanted = {n: v.requires_grad_() for n, v in t.items() if n.startswith("student.") or n.endswith((".weight", ".bias", ".gamma"))}
    loss = LOSSES[method](t, **options)
    grads = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    return loss.item(), {n: (torch.zeros_like(v) if g is None else g).double().numpy() for (n, v), g in zip(wanted.items(), grads)}
