/* image.c - which decoder a file needs, told by its first bytes. */
#include "io/image.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "io/image_priv.h"

static const size_t FILE_MAX = (size_t)1 << 30;
typedef enum { KIND_PNG, KIND_JPEG } Kind;

static const struct {
    const char *magic;
    size_t n;
    const char *name;
} others[] = {
    {"GIF8", 4, "a GIF image"},
    {"BM", 2, "a BMP image"},
    {"II*\0", 4, "a TIFF image"},
    {"MM\0*", 4, "a TIFF image"},
    {"RIFF", 4, "a RIFF file (WebP?)"},
    {"%PDF", 4, "a PDF document"},
    {"PK\3\4", 4, "a zip archive"},
    {"\x1f\x8b", 2, "gzip data"},
    {"\0\0\0\x0cjP  ", 8, "a JPEG 2000 image"},
    {"P5", 2, "a PGM image"},
    {"P6", 2, "a PPM image"},
    {"\x93NUMPY", 6, "a NumPy array"},
    {"version https://git-lfs", 23, "a Git LFS pointer, not the file itself"},
};

/* What a file that is neither PNG nor JPEG looks like, in words. */
static const char *describe(const uint8_t *data, size_t n) {
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (n >= others[i].n && !memcmp(data, others[i].magic, others[i].n)) return others[i].name;
    size_t i = 0;
    while (i < n && isspace(data[i])) i++;
    if (i < n && data[i] == '<') return "an HTML or XML page (a failed download?)";
    for (i = 0; i < n && i < 256; i++)
        if (data[i] < 0x20 && !isspace(data[i])) return "something else";
    return "a text file";
}

static Err sniff(const uint8_t *data, size_t n, const char *name, Kind *kind) {
    static const uint8_t png[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'},
                         jpeg[3] = {0xff, 0xd8, 0xff};
    if (n == 0) return err_set(E(EXIT_DATA, 38), "%s: the file is empty; replace it", name);
    if (n >= sizeof png && !memcmp(data, png, sizeof png)) return *kind = KIND_PNG, OK;
    if (n >= sizeof jpeg && !memcmp(data, jpeg, sizeof jpeg)) return *kind = KIND_JPEG, OK;
    if ((n < sizeof png && !memcmp(data, png, n)) || (n < sizeof jpeg && !memcmp(data, jpeg, n)))
        return err_set(E(EXIT_DATA, 38), "%s: the image is cut short after %zu bytes; replace it",
                       name, n);
    return err_set(E(EXIT_DATA, 43), "%s: is %s, not a PNG or JPEG image; convert or remove it",
                   name, describe(data, n));
}

Err io_image_check_size(const char *name, uint64_t h, uint64_t w, int row) {
    if (h == 0 || w == 0)
        return err_set(E(EXIT_DATA, row),
                       "%s: the header says %" PRIu64 " x %" PRIu64 " pixels; replace the image",
                       name, w, h);
    if (h > IMAGE_SIDE_MAX || w > IMAGE_SIDE_MAX || h * w > IMAGE_PIXELS_MAX)
        return err_set(
            E(EXIT_DATA, row),
            "%s: %" PRIu64 " x %" PRIu64
            " pixels are more than the limit of %d a side and %d in all; cut the image into tiles",
            name, w, h, IMAGE_SIDE_MAX, IMAGE_PIXELS_MAX);
    return OK;
}

Err image_decode_rgb(const uint8_t *data, size_t bytes, const char *name, Image *out) {
    Kind kind;
    *out = (Image){0};
    TRY(sniff(data, bytes, name, &kind));
    return kind == KIND_PNG ? io_png_decode(data, bytes, name, PNG_AS_RGB, out)
                            : io_jpeg_decode(data, bytes, name, out);
}

static Err refuse_jpeg(const uint8_t *data, size_t bytes, const char *name) {
    Kind kind;
    TRY(sniff(data, bytes, name, &kind));
    if (kind == KIND_PNG) return OK;
    return err_set(E(EXIT_DATA, 36),
                   "%s: labels in a JPEG are blurred by its compression; give them as PNG with "
                   "one index per pixel",
                   name);
}

Err image_decode_labels(const uint8_t *data, size_t bytes, const char *name, Image *out) {
    *out = (Image){0};
    TRY(refuse_jpeg(data, bytes, name));
    return io_png_decode(data, bytes, name, PNG_AS_LABELS, out);
}

static Err decode_numbers(const uint8_t *data, size_t bytes, const char *name, Image *out) {
    TRY(refuse_jpeg(data, bytes, name));
    return io_png_decode(data, bytes, name, PNG_AS_NUMBERS, out);
}

Err image_decode_colours(const uint8_t *data, size_t bytes, const char *name, Image *out) {
    enum { COLOUR_TYPE_AT = 25, HAS_COLOUR = 2 };
    *out = (Image){0};
    TRY(refuse_jpeg(data, bytes, name));
    bool grey = bytes > COLOUR_TYPE_AT && !(data[COLOUR_TYPE_AT] & HAS_COLOUR);
    return io_png_decode(data, bytes, name, grey ? PNG_AS_LABELS : PNG_AS_RGB, out);
}

typedef Err (*Decode)(const uint8_t *data, size_t bytes, const char *name, Image *out);
static Err read_image(const char *path, Decode decode, Image *out) {
    Bytes file;
    *out = (Image){0};
    TRY(sys_read_file(path, FILE_MAX, EXIT_DATA, &file));
    Err rc = decode(file.data, file.bytes, path, out);
    free(file.data);
    return rc;
}

Err image_read_rgb(const char *path, Image *out) {
    return read_image(path, image_decode_rgb, out);
}
Err image_read_labels(const char *path, Image *out) {
    return read_image(path, image_decode_labels, out);
}
Err image_read_numbers(const char *path, Image *out) {
    return read_image(path, decode_numbers, out);
}
Err image_read_colours(const char *path, Image *out) {
    return read_image(path, image_decode_colours, out);
}
