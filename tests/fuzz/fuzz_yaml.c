/* fuzz_yaml.c - a configuration: YAML, then every option. */
#include "fuzz.h"
#include "train/config.h"

FUZZ(yaml) {
    Config *c;
    char *text = malloc(n + 1);
    memcpy(text, data, n);
    text[n] = 0;
    Err rc = config_read_text(text, "fuzz.yaml", &c);
    if (!rc) {
        free(config_text(c));
        config_close(c);
    }
    free(text);
    return rc;
}
