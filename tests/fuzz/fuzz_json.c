/* fuzz_json.c - what a report reads of a run directory: lines of JSON, its status. */
#include "fuzz.h"
#include "report/report.h"

FUZZ(json) {
    static const char *const FILES[] = {"metrics.jsonl", "run.status.json"};
    RunData *r;
    for (int i = 0; i < 2; i++) fuzz_file(FILES[i], data, n);
    fuzz_file("config.yaml", "seed: 1\n", 8);
    Err rc = run_data_open(temp_path(""), &r);
    if (!rc) run_data_close(r);
    return rc;
}
