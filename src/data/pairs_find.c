/* pairs_find.c - from patterns and splits to pairs.
 *
 * A pattern is a path below root in which {id} stands for what an image and its label share, over
 * any number of folders, and {split} for the split; where it ends in .*, the file may be a png or
 * a jpg. Both trees are searched whole, so a label without image is found as well as the other way
 * round.
 *
 * Shares are dealt by whole groups (data.split.group: the first sub-expression of a regular
 * expression on the id, else all it matches), so that neighbouring frames do not lie on both sides.
 * Groups are sorted by the hash of their text; the first ones are the test split until it has its
 * share, the next ones val, the rest train. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/str.h"
#include "base/sys.h"
#include "data/pairs.h"
#include "io/yaml.h"

enum { DEPTH_MAX = 16, SHOWN = 10 };
typedef struct Found {
    const char *id, *path;
} Found; /* in the arena */
typedef struct FoundList {
    Found *v;
    int n, cap;
} FoundList;

char *pairs_fill(Arena *a, const char *pattern, const char *what, const char *by) {
    Str s = {0};
    str_add(&s, "");
    for (const char *at; (at = strstr(pattern, what)); pattern = at + strlen(what))
        str_addn(&s, pattern, (size_t)(at - pattern)), str_add(&s, by);
    str_add(&s, pattern);
    char *out = arena_strdup(a, s.s);
    str_free(&s);
    return out;
}

/* ---- one pattern --------------------------------------------------------------------------------
 */
static const char *image_suffix(const char *path) {
    static const char *const ends[] = {".png", ".PNG", ".jpg", ".JPG", ".jpeg", ".JPEG"};
    for (int i = 0; i < 6; i++)
        if (str_ends(path, ends[i])) return path + strlen(path) - strlen(ends[i]);
    return NULL;
}

/* The id of a path below root, or NULL when the pattern is another. */
static char *id_of(Arena *a, const char *pattern, const char *path) {
    char *stem = arena_strdup(a, path), *fixed = arena_strdup(a, pattern);
    if (str_ends(pattern, ".*")) {
        const char *suffix = image_suffix(path);
        if (!suffix) return NULL;
        stem[suffix - path] = 0, fixed[strlen(fixed) - 2] = 0;
    }
    const char *first = strstr(fixed, "{id}");
    size_t times = 0, n = strlen(stem);
    for (const char *at = fixed; (at = strstr(at, "{id}")); at += 4) times++;
    size_t bare = strlen(fixed) - 4 * times;
    if (n <= bare || (n - bare) % times) return NULL;
    char *id = arena_printf(a, "%.*s", (int)((n - bare) / times), stem + (first - fixed));
    return strcmp(pairs_fill(a, fixed, "{id}", id), stem) ? NULL : id;
}

/* All files below root/dir that the pattern fits; dir is "" or ends in a slash. */
static Err search(Arena *a, const char *root, const char *dir, const char *pattern, int depth,
                  FoundList *out) {
    char **names, *full = arena_printf(a, "%s/%s", root, dir);
    int n;
    Err rc = OK;
    if (depth > DEPTH_MAX)
        return err_set(E(EXIT_DATA, 45), "%s: more than %d folders deep; is it a loop of links?",
                       full, DEPTH_MAX);
    TRY(sys_list(full, EXIT_DATA, &names, &n));
    for (int i = 0; i < n && !rc; i++) {
        char *path = arena_printf(a, "%s%s", dir, names[i]),
             *whole = arena_printf(a, "%s/%s", root, path), *id = id_of(a, pattern, path);
        if (id && !sys_is_dir(whole)) {
            GROW(out->v, out->n, out->cap);
            out->v[out->n++] = (Found){id, whole};
        } else if (sys_is_dir(whole)) {
            rc = search(a, root, arena_printf(a, "%s/", path), pattern, depth + 1, out);
        }
    }
    sys_free_names(names, n);
    return rc;
}

static int by_id(const void *a, const void *b) {
    return strcmp(((const Found *)a)->id, ((const Found *)b)->id);
}

static Err find(Arena *a, const char *root, const char *pattern, FoundList *out) {
    const char *id = strstr(pattern, "{id}");
    if (!id)
        return err_set(E(EXIT_USAGE, 76),
                       "data.labels=%s: the pattern needs {id}, as in gt/{id}.png", pattern);
    int n = (int)(id - pattern);
    while (n > 0 && pattern[n - 1] != '/') n--;
    char *dir = arena_printf(a, "%.*s", n, pattern);
    if (!sys_is_dir(arena_printf(a, "%s/%s", root, dir)))
        return err_set(E(EXIT_DATA, 30), "%s/%s: no such folder; looked for %s in %s", root, dir,
                       pattern, root);
    TRY(search(a, root, dir, pattern, 0, out));
    if (out->n) qsort(out->v, (size_t)out->n, sizeof *out->v, by_id);
    for (int i = 1; i < out->n; i++)
        if (!by_id(&out->v[i - 1], &out->v[i]))
            return err_set(E(EXIT_DATA, 32), "%s and %s have the same name; rename or remove one",
                           out->v[i - 1].path, out->v[i].path);
    return OK;
}

/* ---- pairing ------------------------------------------------------------------------------------
 */
static const char *name_of(Arena *a, const PairSpec *s, const char *id) {
    return s->base_names ? path_base(id) : pairs_fill(a, id, "/", "__");
}

typedef struct {
    Str list;
    int n;
} Alone;
static void alone_add(Alone *x, bool skip, const char *path) {
    if (skip) log_warn("left out, without its other half: %s", path);
    else if (x->n++ < SHOWN) str_addf(&x->list, "%s%s", x->list.n ? ", " : "", path);
}

/* Walk both sorted lists; what has no other half is told at once. */
static Err merge(Dataset *d, const DataOptions *o, const PairSpec *s, const FoundList *images,
                 const FoundList *labels, PairList *out) {
    Alone alone[2] = {0};
    for (int i = 0, k = 0; i < images->n || k < labels->n;) {
        int c = i == images->n ? 1 : k == labels->n ? -1 : by_id(&images->v[i], &labels->v[k]);
        if (c < 0) alone_add(&alone[0], o->skip_unpaired, images->v[i++].path);
        else if (c > 0) alone_add(&alone[1], o->skip_unpaired, labels->v[k++].path);
        else {
            const Found *f = &images->v[i++];
            pairs_add(out, name_of(d->arena, s, f->id), f->path, labels->v[k++].path);
        }
    }
    Err rc = OK;
    if (images->n && labels->n && !out->n)
        rc = err_set(E(EXIT_DATA, 30),
                     "%s: 0 pairs found in %d images and %d labels: no {id} is shared, the first "
                     "are %s and %s; correct data.images and data.labels",
                     o->root, images->n, labels->n, images->v[0].id, labels->v[0].id);
    else if (alone[0].n + alone[1].n)
        rc = err_set(E(EXIT_DATA, 31),
                     "%s: %d images without label%s%s, %d labels without image%s%s; add the other "
                     "halves, remove these, or set data.skip_unpaired=true",
                     o->root, alone[0].n, alone[0].n ? ": " : "", alone[0].n ? alone[0].list.s : "",
                     alone[1].n, alone[1].n ? ": " : "", alone[1].n ? alone[1].list.s : "");
    str_free(&alone[0].list), str_free(&alone[1].list);
    return rc;
}

static Err find_pairs(Dataset *d, const DataOptions *o, const PairSpec *s, PairList *out) {
    FoundList images = {0}, labels = {0};
    const char *word = s->word ? s->word : d->split;
    const char *of_images = pairs_fill(d->arena, s->images, "{split}", word),
               *of_labels = pairs_fill(d->arena, s->labels, "{split}", word);
    Err rc = find(d->arena, o->root, of_images, &images);
    if (!rc) rc = find(d->arena, o->root, of_labels, &labels);
    if (!rc && !images.n + !labels.n)
        rc = err_set(E(EXIT_DATA, 30),
                     "%s: 0 pairs found; looked for %s, which %d files fit, and %s, "
                     "which %d fit; correct data.images and data.labels",
                     o->root, of_images, images.n, of_labels, labels.n);
    if (!rc) rc = merge(d, o, s, &images, &labels, out);
    free(images.v), free(labels.v);
    return rc;
}

/* ---- lists --------------------------------------------------------------------------------------
 */
/* The path of one entry beneath root. A leading slash is root's own (the lists of VOC and SBD). */
static Err beneath(Arena *a, const char *root, const char *entry, const char *where,
                   const char **out) {
    const char *at = entry;
    while (*at == '/') at++;
    *out = arena_printf(a, "%s/%s", root, at);
    bool up = str_starts(at, "../") || strstr(at, "/../") || str_ends(at, "/..");
    if (!up && *at && (*entry != '/' || sys_exists(*out))) return OK;
    return err_set(E(EXIT_DATA, 46),
                   "%s: entry \"%s\" leaves the data root; name files beneath it", where, entry);
}

static Err by_list(Dataset *d, const DataOptions *o, const PairSpec *s, const char *file,
                   PairList *out) {
    Arena *a = d->arena;
    ListLine *line;
    int n;
    const char *list = *file == '/' ? file : arena_printf(a, "%s/%s", o->root, file);
    if (!sys_exists(list))
        return err_set(E(EXIT_DATA, 30), "%s: 0 pairs found, there is no such list for split %s; "
                                         "correct data.split or data.root",
                       list, d->split);
    TRY(pairs_read_list(a, list, &line, &n));
    const bool patterns = strstr(s->images, "{id}") && s->labels && strstr(s->labels, "{id}");
    for (int i = 0; i < n; i++) {
        const char *image = line[i].word[0], *label = line[i].word[1], *id = image;
        if (!*label && !patterns)
            return err_set(E(EXIT_DATA, 31), "%s: image %s without a label file; write it behind "
                                             "the image, or give data.images and data.labels with "
                                             "{id}",
                           line[i].where, image);
        if (!*label) {
            const char *word = s->word ? s->word : d->split;
            image = pairs_fill(a, pairs_fill(a, s->images, "{split}", word), "{id}", id);
            label = pairs_fill(a, pairs_fill(a, s->labels, "{split}", word), "{id}", id);
        } else {
            char *stem = path_stem(image);
            id = arena_strdup(a, stem);
            free(stem);
        }
        TRY(beneath(a, o->root, image, line[i].where, &image));
        TRY(beneath(a, o->root, label, line[i].where, &label));
        pairs_add(out, name_of(a, s, id), image, label);
    }
    if (n) return OK;
    return err_set(E(EXIT_DATA, 30), "%s: 0 pairs found; looked for lines of an image and a label "
                                     "file, or of an {id}",
                   list);
}

/* ---- shares -------------------------------------------------------------------------------------
 */
typedef struct {
    double val, test;
    const char *group; /* regular expression; NULL: each image by itself */
} Shares;
typedef struct {
    const char *name;
    Digest hash;
    int at;
} Member;

static int by_hash(const void *a, const void *b) {
    const Member *x = a, *y = b;
    int c = strcmp(x->hash.hex, y->hash.hex);
    return c ? c : (x->at > y->at) - (x->at < y->at);
}

static Err share_of(const YNode *map, const char *key, double *out) {
    const YNode *y = yaml_get(map, key);
    if (!y) return OK;
    if (y->kind == Y_SCALAR && parse_f64(y->text, out) && *out >= 0 && *out < 1) return OK;
    return err_set(E(EXIT_USAGE, 76), "data.split.%s: a share is a number from 0 to 1", key);
}

static Err shares_read(const YNode *map, Shares *out) {
    *out = (Shares){0};
    for (int i = 0; i < map->n; i++)
        if (strcmp(map->key[i], "val") && strcmp(map->key[i], "test") &&
            strcmp(map->key[i], "group"))
            return err_set(E(EXIT_USAGE, 76),
                           "data.split: %s is not known of shares; val, test and "
                           "group are",
                           map->key[i]);
    TRY(share_of(map, "val", &out->val));
    TRY(share_of(map, "test", &out->test));
    const YNode *group = yaml_get(map, "group");
    if (group) out->group = group->kind == Y_SCALAR ? group->text : "";
    if (out->val + out->test < 1) return OK;
    return err_set(E(EXIT_USAGE, 76), "data.split: val and test leave nothing to train on");
}

/* Number of the split (0 test, 1 val, 2 train) of each sorted member, groups undivided. A split that
 * was asked for gets at least one. */
static void deal(const Member *m, int n, const Shares *s, uint8_t *to) {
    const double share[] = {s->test * n, s->val * n};
    int now = 0, given = 0;
    for (int i = 0; i < n; i++) {
        const bool same = i && !strcmp(m[i].hash.hex, m[i - 1].hash.hex);
        while (!same && now < 2 && given >= share[now]) now++, given = 0;
        to[i] = (uint8_t)now, given++;
    }
}

static Err members_of(Arena *a, const PairList *all, const Shares *s, Member *out) {
    const char **group = arena_alloc(a, (size_t)all->n * sizeof *group);
    Err rc = s->group ? group_names(a, s->group, all->name, all->n, group) : OK;
    if (rc) return err_wrap(rc, "data.split.group");
    for (int i = 0; i < all->n; i++) {
        const char *name = s->group ? group[i] : all->name[i];
        out[i] = (Member){name, hash_digest(name, strlen(name)), i};
    }
    qsort(out, (size_t)all->n, sizeof *out, by_hash);
    return OK;
}

static int count_groups(const Member *m, int n) {
    int groups = 0;
    for (int i = 0; i < n; i++) groups += !i || strcmp(m[i].hash.hex, m[i - 1].hash.hex);
    return groups;
}

/* Few groups make coarse shares: say what was asked for when a split has half as much again. */
static void warn_of_share(const Dataset *d, double share, int n, int total, int groups) {
    if (share > 0 && n > 1.5 * share * total && n >= share * total + 1)
        log_warn(
            "%s has %d of %d images, %.0f %% where data.split wants %.0f %%: data.split.group makes "
            "%d groups; smaller ones come closer",
            d->split, n, total, 100.0 * n / total, 100 * share, groups);
}

/* Keep what belongs to d's split. */
static Err take_share(Dataset *d, const YNode *map, PairList *all) {
    static const char *const splits[] = {"test", "val", "train"};
    Shares s;
    TRY(shares_read(map, &s));
    if (s.group) d->group = arena_strdup(d->arena, s.group);
    int want = 0, n = 0;
    while (want < 3 && strcmp(d->split, splits[want])) want++;
    if (want == 3)
        return err_set(E(EXIT_DATA, 30), "0 pairs found for split \"%s\"; there are train, val and "
                                         "test", d->split);
    Member *m = arena_alloc(d->arena, (size_t)all->n * sizeof *m);
    uint8_t *to = arena_alloc(d->arena, (size_t)all->n),
            *of = arena_alloc(d->arena, (size_t)all->n);
    TRY(members_of(d->arena, all, &s, m));
    deal(m, all->n, &s, to);
    for (int i = 0; i < all->n; i++) of[m[i].at] = to[i];
    for (int i = 0; i < all->n; i++)
        if (of[i] == want) {
            all->name[n] = all->name[i], all->image[n] = all->image[i];
            all->label[n++] = all->label[i];
        }
    int total = all->n;
    all->n = n;
    if (n) {
        const double share[] = {s.test, s.val, 1 - s.test - s.val};
        return warn_of_share(d, share[want], n, total, count_groups(m, total)), OK;
    }
    return err_set(E(EXIT_DATA, 30), "0 pairs found: none of %d images falls to split %s; raise "
                                     "data.split.%s, or give data.split.group smaller groups",
                   total, d->split, want == 2 ? "train" : splits[want]);
}

/* ---- all of it ----------------------------------------------------------------------------------
 */
/* A map whose values are numbers (or that names a group) deals shares; otherwise it names lists. */
static bool is_shares(const YNode *split) {
    double v;
    for (int i = 0; split->kind == Y_MAP && i < split->n; i++)
        if (!strcmp(split->key[i], "group") ||
            (split->item[i]->kind == Y_SCALAR && parse_f64(split->item[i]->text, &v)))
            return true;
    return false;
}

/* The list file of d's split, or NULL. */
static const char *list_of(Dataset *d, const PairSpec *s, const YNode *split) {
    const YNode *own = split->kind == Y_MAP ? yaml_get(split, d->split) : split;
    const char *name = own && own->kind == Y_SCALAR && *own->text ? own->text : s->lists;
    return name ? pairs_fill(d->arena, name, "{split}", d->split) : NULL;
}

static Err collect(Dataset *d, const DataOptions *o, const PairSpec *s, PairList *out) {
    YNode *split;
    const char *text = s->split ? s->split : "";
    TRY(yaml_parse(text, strlen(text), "data.split", d->arena, &split));
    double number;
    if (split->kind == Y_SCALAR && parse_f64(split->text, &number))
        return err_set(E(EXIT_USAGE, 76), "data.split=%s is no list; for shares give "
                                          "data.split={val: %s}", split->text, split->text);
    const bool shares = is_shares(split);
    const char *list = shares ? s->lists : list_of(d, s, split);
    if (list) TRY(by_list(d, o, s, list, out));
    else if (!strstr(s->images, "{id}")) TRY(by_list(d, o, s, s->images, out));
    else if (!s->labels)
        return err_set(E(EXIT_USAGE, 76), "data.labels is not set; give data.labels=gt/{id}.png");
    else TRY(find_pairs(d, o, s, out));
    if (shares) return take_share(d, split, out);
    if (list || strstr(s->images, "{split}")) return OK;
    return err_set(E(EXIT_USAGE, 76),
                   "data.split is not set; give data.split={val: 0.1, test: 0.1}, "
                   "list files, or {split} in data.images");
}

Err pairs_open(Dataset *d, const DataOptions *o, const PairSpec *spec) {
    PairList l = {0};
    if (!o->root || !sys_is_dir(o->root))
        return err_set(E(EXIT_DATA, 30), "%s: no such folder; set data.root to where the data lie",
                       o->root ? o->root : "data.root");
    if (!spec->images)
        return err_set(E(EXIT_USAGE, 76), "data.images is not set; give data.images=img/{id}.jpg");
    Err rc = collect(d, o, spec, &l);
    if (!rc) return pairs_finish(d, o, &l);
    return pairs_free(&l), rc;
}
