/* fuzz_list.c - the list of images and labels of a CamVid folder, which holds two of each. */
#include "fuzz.h"
#include "base/sys.h"
#include "data/data.h"

static void make_folder(void) {
    static const char *const FILES[] = {"val/a.png", "val/b.png", "valannot/a.png",
                                        "valannot/b.png"};
    if (sys_exists(temp_path("valannot/b.png"))) return;
    if (sys_mkdirs(temp_path("val")) || sys_mkdirs(temp_path("valannot"))) abort();
    for (int i = 0; i < 4; i++) fuzz_file(FILES[i], "", 0);
}
FUZZ(list) {
    Dataset *d;
    make_folder();
    fuzz_file("val.txt", data, n);
    Err rc = dataset_open(&(DataOptions){.kind = "camvid", .root = temp_path("")}, "val", &d);
    if (!rc) dataset_close(d);
    return rc;
}
