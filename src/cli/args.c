/* args.c - see args.h. */
#include "cli/args.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/str.h"
#include "train/config.h"

enum {
    STEM_MAX = 144
}; /* of 255; the rest is for ".probs.safetensors" and the writer's ".tmp-HOST-PID" */

/* ---- words ----------------------------------------------------------------------------------- */
bool cli_wants_help(int argc, char **argv) {
    for (int i = 0; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) return true;
    return false;
}

static Err too_few(const char *command, const char *usage, int n) {
    char *line = xprintf("%.*s", (int)strcspn(usage, "\n"), usage), *copy = xstrdup(line),
         *save = NULL;
    const char *word = strtok_r(copy, " ", &save);
    for (int i = 0; word && i <= n; i++) word = strtok_r(NULL, " ", &save);
    Err rc = err_set(E(EXIT_USAGE, 76), "%s: %s is missing; usage: retort %s", command,
                     word ? word : "a word", line);
    free(line);
    free(copy);
    return rc;
}

static Err too_many(const char *command, const char *usage, const char *word) {
    if (*word == '-')
        return err_set(
            E(EXIT_USAGE, 76),
            "%s: %s is no option; options are key=value, or --key value; see retort %s --help",
            command, word, command);
    return err_set(E(EXIT_USAGE, 76),
                   "%s: \"%s\" is one word too many; options are key=value; usage: retort %.*s",
                   command, word, (int)strcspn(usage, "\n"), usage);
}

Err cli_args(const char *command, const char *usage, int argc, char **argv, int min, int max,
             CliArgs *out) {
    *out = (CliArgs){.help = cli_wants_help(argc, argv)};
    if (out->help) {
        help_print("retort %s\n\n", usage);
        config_help(command);
        return OK;
    }
    out->word = xcalloc((size_t)argc + 1, sizeof *out->word);
    out->opt = xcalloc((size_t)argc + 1, sizeof *out->opt);
    config_split_args(argc, argv, out->word, &out->n_word, out->opt, &out->n_opt);
    Err rc = OK;
    if (out->n_word < min) rc = too_few(command, usage, out->n_word);
    if (max >= 0 && out->n_word > max) rc = too_many(command, usage, out->word[max]);
    if (rc) cli_args_close(out);
    return rc;
}

void cli_args_close(CliArgs *a) {
    free(a->word);
    free(a->opt);
    *a = (CliArgs){0};
}

/* ---- options --------------------------------------------------------------------------------- */
bool cli_given(const CliArgs *a, const char *name) {
    size_t n = strlen(name);
    for (int i = 0; i < a->n_opt; i++) {
        const bool dashed = str_starts(a->opt[i], "--");
        const char *text = a->opt[i] + 2 * dashed;
        if (!strncmp(text, name, n) && (text[n] == '=' || (dashed && !text[n]))) return true;
    }
    return false;
}

Err cli_option(const CliArgs *a, int *i, Arena *mem, const char **key, const char **value) {
    const char *text = a->opt[(*i)++], *eq = strchr(text, '=');
    const bool dashed = str_starts(text, "--");
    *key = arena_printf(mem, "%.*s", (int)(eq ? eq - text : (long)strlen(text)) - 2 * dashed,
                        text + 2 * dashed);
    *value = eq ? eq + 1 : NULL;
    if (!eq && *i < a->n_opt && !str_starts(a->opt[*i], "--") && !strchr(a->opt[*i], '='))
        *value = a->opt[(*i)++];
    return *value ? OK
                  : err_set(E(EXIT_USAGE, 76), "command line: %s needs a value; write %s=VALUE",
                            text, *key);
}

Err cli_size(const char *text, int *h, int *w) {
    if (!text || !*text) return OK;
    char end;
    int a, b, n = sscanf(text, "%dx%d%c", &a, &b, &end);
    if (n == 1 && sscanf(text, "%d%c", &a, &end) == 1) b = a, n = 2;
    if (n != 2 || a < 1 || b < 1 || a > 65535 || b > 65535)
        return err_set(E(EXIT_USAGE, 76),
                       "size=%s: is not HxW of 1 to 65535 each; write for example size=360x480",
                       text);
    *h = a, *w = b;
    return OK;
}

Err cli_choice(const char *name, const char *value, const char *a, const char *b) {
    if (!value || !strcmp(value, a) || (b && !strcmp(value, b))) return OK;
    return err_set(E(EXIT_USAGE, 76), "%s=%s: is not known; choose %s%s%s", name, value, a,
                   b ? " or " : "", b ? b : "");
}

/* ---- output ---------------------------------------------------------------------------------- */
void cli_print(const char *text, size_t max) {
    Str s = {0};
    char *cut = xprintf("%.*s", (int)max, text);
    str_escape_terminal(&s, cut);
    printf("%s%s", s.s, strlen(text) > max ? " ..." : "");
    str_free(&s);
    free(cut);
}

char *cli_output_name(const char *stem) {
    if (strlen(stem) <= STEM_MAX) return xstrdup(stem);
    int n = STEM_MAX - 17;
    while (n > 0 && ((unsigned char)stem[n] & 0xc0) == 0x80) n--; /* not inside a character */
    return xprintf("%.*s~%016" PRIx64, n, stem, hash_fnv1a(stem));
}
