/* inputs.c - see inputs.h. */
#include "cli/inputs.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/args.h"

enum { FOLDER_DEPTH_MAX = 16 };

static void add_file(Inputs *in, const char *path, const char *below) {
    char *stem = path_stem(path), *name = cli_output_name(stem);
    GROW(in->v, in->n, in->cap);
    in->v[in->n++] = (Input){xstrdup(path), *below ? path_join(below, name) : xstrdup(name)};
    free(stem);
    free(name);
}

static bool is_image_name(const char *name) {
    static const char *const ends[] = {".png", ".PNG", ".jpg", ".JPG", ".jpeg", ".JPEG"};
    static const char *const ours[] = {".label.png", ".overlay.png", ".ids.png"};
    for (int i = 0; i < 3; i++)
        if (str_ends(name, ours[i])) return false;
    for (int i = 0; i < 6; i++)
        if (str_ends(name, ends[i])) return true;
    return false;
}

static Err add_folder(Inputs *in, const char *dir, const char *below, int depth) {
    char **names;
    int n;
    Err rc = OK;
    if (depth > FOLDER_DEPTH_MAX)
        return err_set(E(EXIT_DATA, 45), "%s: more than %d folders deep; is it a loop of links?",
                       dir, FOLDER_DEPTH_MAX);
    TRY(sys_list(dir, EXIT_DATA, &names, &n));
    for (int i = 0; i < n && !rc; i++) {
        char *path = path_join(dir, names[i]),
             *sub = *below ? path_join(below, names[i]) : xstrdup(names[i]);
        if (sys_is_dir(path)) rc = add_folder(in, path, sub, depth + 1);
        else if (is_image_name(names[i])) add_file(in, path, below);
        free(path);
        free(sub);
    }
    sys_free_names(names, n);
    return rc;
}

/* Of path, what lies between the first `fixed` bytes and the last '/'. */
static char *folder_below(const char *path, size_t fixed) {
    const char *from = path + fixed, *end = strrchr(path, '/');
    return end && end > from ? xprintf("%.*s", (int)(end - from), from) : xstrdup("");
}

static Err add_pattern(Inputs *in, const char *pattern) {
    char **paths;
    int n;
    size_t fixed = strcspn(pattern, "*?[");
    Err rc = OK;
    while (fixed > 0 && pattern[fixed - 1] != '/') fixed--;
    TRY(sys_glob(pattern, EXIT_DATA, &paths, &n));
    if (!n) rc = err_set(E(EXIT_DATA, 30), "%s: no file fits this pattern; check it", pattern);
    for (int i = 0; i < n && !rc; i++) {
        if (sys_is_dir(paths[i])) rc = add_folder(in, paths[i], paths[i] + fixed, 0);
        else if (is_image_name(paths[i])) {
            char *below = folder_below(paths[i], fixed);
            add_file(in, paths[i], below);
            free(below);
        }
    }
    sys_free_names(paths, n);
    return rc;
}

Err inputs_add(Inputs *in, const char *word) {
    if (sys_is_dir(word)) return add_folder(in, word, "", 0);
    if (strpbrk(word, "*?[") && !sys_exists(word)) return add_pattern(in, word);
    add_file(in, word, "");
    return OK;
}

void inputs_close(Inputs *in) {
    for (int i = 0; i < in->n; i++) free(in->v[i].path), free(in->v[i].stem);
    free(in->v);
}

static int compare_stems(const void *a, const void *b) {
    return strcmp((*(Input *const *)a)->stem, (*(Input *const *)b)->stem);
}

Err inputs_check(const Inputs *in) {
    if (!in->n)
        return err_set(E(EXIT_DATA, 30),
                       "predict: no image was found; name PNG or JPEG files, or folders of them");
    Input **sorted = xcalloc((size_t)in->n, sizeof *sorted);
    for (int i = 0; i < in->n; i++) sorted[i] = &in->v[i];
    qsort(sorted, (size_t)in->n, sizeof *sorted, compare_stems);
    Err rc = OK;
    for (int i = 1; i < in->n && !rc; i++)
        if (!compare_stems(&sorted[i - 1], &sorted[i]))
            rc = err_set(E(EXIT_DATA, 32),
                         "%s and %s would write the same files; predict them into two folders",
                         sorted[i - 1]->path, sorted[i]->path);
    free(sorted);
    return rc;
}
