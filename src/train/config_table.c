/* config_table.c - the table of options (options.def) and look-ups in it. */
#include <string.h>

#include "train/config_priv.h"

#define OPTION(name_, type_, field_, def_, unit_, help_, flags_, choices_, lo_, hi_, commands_)                  \
    {.name = name_, .type = type_, .offset = offsetof(ConfigRaw, field_), .def = def_, .unit = unit_,           \
     .help = help_, .flags = flags_, .choices = choices_, .lo = lo_, .hi = hi_},
const Option config_rows[] = {
#include "train/options.def"
    {0}};
#undef OPTION
#define OPTION(name_, type_, field_, def_, unit_, help_, flags_, choices_, lo_, hi_, commands_) commands_,
static const unsigned row_commands[] = {
#include "train/options.def"
};
#undef OPTION
enum { N_ROWS = sizeof config_rows / sizeof *config_rows - 1 };
_Static_assert(sizeof row_commands / sizeof *row_commands == N_ROWS, "one row, one entry");

#define LATER(name_, accepted_) {name_, accepted_},
static const struct { const char *name, *accepted; } later_rows[] = {
#include "train/options_later.def"
};
#undef LATER
enum { N_LATER = sizeof later_rows / sizeof *later_rows };

/* Short names beside the full ones. Where there may be a teacher, and images are changed to learn from, only those that
 * can mean one thing. */
static const struct { const char *alias, *name; bool training; } aliases[] = {
    {"batch", "train.batch", true}, {"steps", "train.steps", true}, {"threads", "train.threads", true}, {"memory", "train.memory", true},
    {"crop", "data.crop", true}, {"model", "student.model", false}, {"classes", "student.classes", false}, {"width", "student.width", false},
    {"output_stride", "student.output_stride", false}, {"stem", "student.stem", false}, {"aux", "student.aux", false}, {"norm", "student.norm", false},
    {"dropout", "student.dropout", false}, {"partial", "student.partial", false}, {"precision", "train.precision", false},
    {"mode", "eval.mode", false}, {"window", "eval.window", false}, {"stride", "eval.stride", false}, {"scales", "eval.scales", false},
    {"mirror", "eval.mirror", false}, {"average", "eval.average", false}, {"blend", "eval.blend", false},
};
static const struct { const char *name; unsigned bit; } commands[] = {
    {"train", IN_TRAIN}, {"eval", IN_EVAL}, {"predict", IN_PREDICT}, {"info", IN_INFO}, {"run", IN_RUN},
    {"bench", IN_BENCH}, {"check", IN_CHECK}, {"maps", IN_MAPS}, {"study", IN_STUDY}, {"export", IN_EXPORT},
    {"loss", IN_LOSS},
};

int config_row_count(void) { return N_ROWS; }

/* What may be trained may be checked first. */
unsigned config_row_commands(int row) { return row_commands[row] | (row_commands[row] & IN_TRAIN ? IN_CHECK : 0); }

int config_row_find(const char *name) {
    for (int i = 0; i < N_ROWS; i++)
        if (!strcmp(config_rows[i].name, name)) return i;
    return -1;
}

const char *config_later(const char *name) {
    for (int i = 0; i < N_LATER; i++) {
        size_t n = strlen(later_rows[i].name);
        if (!strncmp(later_rows[i].name, name, n) && (name[n] == 0 || name[n] == '.')) return later_rows[i].accepted;
    }
    return NULL;
}

unsigned config_command_bit(const char *command) {
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(commands[i].name, command)) return commands[i].bit;
    return 0;
}

const char *config_alias(const char *name, unsigned bit) {
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (!strcmp(aliases[i].alias, name) && (aliases[i].training || !(bit & (IN_TRAIN | IN_CHECK)))) return aliases[i].name;
    return NULL;
}

const char *config_alias_of(const char *name) {
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (!strcmp(aliases[i].name, name)) return aliases[i].alias;
    return NULL;
}

/* A row's name without its groups ("lr" of "train.lr") means that row; otherwise the nearest by letters. */
const char *config_nearest(const char *name) {
    for (int i = 0; i < N_ROWS; i++) {
        const char *dot = strrchr(config_rows[i].name, '.');
        if (dot && !strcmp(dot + 1, name)) return config_rows[i].name;
    }
    const char *names[N_ROWS + N_LATER + 2];
    int n = 0;
    for (int i = 0; i < N_ROWS; i++) names[n++] = config_rows[i].name;
    for (int i = 0; i < N_LATER; i++) names[n++] = later_rows[i].name;
    names[n++] = "distill.losses";
    names[n++] = "base";
    return str_nearest(name, names, n);
}
