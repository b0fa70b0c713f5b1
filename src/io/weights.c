/* weights.c - which reader a file of weights needs, by its first bytes; see weights.h. */
#include "io/weights.h"

#include <string.h>

#include "base/str.h"
#include "base/sys.h"

/* Files that users take for weights, and what to do about them. */
static const struct {
    size_t at;
    const char *magic;
    size_t n;
    const char *what, *remedy;
} FOREIGN[] = {
    {257, "ustar", 5, "a tar archive, PyTorch's format of 2016",
     "load it in PyTorch and torch.save(model.state_dict(), FILE)"},
    {0, "\x1f\x8b", 2, "compressed by gzip", "unpack it first"},
    {0, "BZh", 3, "compressed by bzip2", "unpack it first"},
    {0, "\xfd" "7zXZ", 5, "compressed by xz", "unpack it first"},
    {0, "\x89HDF", 4, "an HDF5 file (Keras)", "export the network as ONNX"},
    {0, "\x93NUMPY", 6, "a NumPy array", "save the tensors as safetensors"},
    {0, "<", 1, "an HTML page", "the download went wrong: get the file itself"},
    {0, "version https://git-lfs", 23, "a Git LFS pointer", "fetch the file itself: git lfs pull"},
    {0, "\x80", 1, "a pickle, but not one of torch.save",
     "in PyTorch: torch.save(model.state_dict(), FILE)"},
};

/* Whether PyTorch's readers or safetensors' are due; refuses what neither reads. */
static Err sniff(const IoBytes *src, bool *pytorch) {
    uint8_t head[512] = {0};
    const size_t n = src->bytes < sizeof head ? (size_t)src->bytes : sizeof head;
    if (src->data && n) memcpy(head, src->data, n);
    else if (n) TRY(sys_read_at(src->name, 0, head, n, EXIT_MODEL));
    if ((*pytorch = pth_is(head, n))) return OK;
    const bool safetensors = n > 8 && head[8] == '{';    /* behind a length whose first byte may be anything */
    for (size_t i = 0; i < sizeof FOREIGN / sizeof *FOREIGN && !safetensors; i++)
        if (!memcmp(head + FOREIGN[i].at, FOREIGN[i].magic, FOREIGN[i].n))
            return err_set(E(EXIT_MODEL, 59), "%s: is %s; %s", src->name, FOREIGN[i].what,
                           FOREIGN[i].remedy);
    return OK;
}
Err weights_parse(const IoBytes *src, SafeFile *out) {
    bool pytorch;
    *out = (SafeFile){0};
    TRY(sniff(src, &pytorch));
    if (pytorch) return pth_read(src, out);
    return src->data ? st_parse(src->data, (size_t)src->bytes, src->name, EXIT_MODEL, out)
                     : st_read(src->name, EXIT_MODEL, out);
}
Err weights_read(const char *path, SafeFile *out) {
    IoBytes src = {.name = path};
    *out = (SafeFile){0};
    TRY(sys_file_size(path, EXIT_MODEL, &src.bytes));
    return weights_parse(&src, out);
}

Err weights_read_meta(const char *path, SafeFile *out) {
    IoBytes src = {.name = path};
    bool pytorch;
    *out = (SafeFile){0};
    TRY(sys_file_size(path, EXIT_MODEL, &src.bytes));
    TRY(sniff(&src, &pytorch));
    return pytorch ? OK : st_read_meta(path, EXIT_MODEL, out);
}

void weights_unwrap(SafeFile *f) {
    static const char *const WRAPPERS[] = {"module.", "_orig_mod.", "model.", "net.", "network."};
    TensorList *l = f->tensors;
    size_t k = 0;
    while (k < sizeof WRAPPERS / sizeof *WRAPPERS) {
        const size_t cut = strlen(WRAPPERS[k]);
        bool all = l->n > 0;
        for (int i = 0; i < l->n && all; i++)
            all = str_starts(l->v[i].name, WRAPPERS[k]) && l->v[i].name[cut];
        for (int i = 0; i < l->n && all; i++) l->v[i].name += cut;
        k = all ? 0 : k + 1;                             /* they nest */
    }
}
