/* test_pickle.c - the pickle machine: Python's own pickles of every protocol, and everything hostile. */
#include "base/str.h"
#include "base/sys.h"
#include "io/pickle.h"
#include "tempdir.h"
#include "test.h"

/* Run exactly these bytes (a copy without slack, so that ASan sees reads past the end). */
static Err run_bytes(const void *bytes, size_t n, Arena *a, Pickle *out) {
    uint8_t *exact = xcalloc(n, 1);
    if (n) memcpy(exact, bytes, n);
    uint8_t *kept = arena_alloc(a, n + 1);               /* texts borrow the stream's bytes */
    memcpy(kept, exact, n);
    Arena *scratch = arena_open();
    Pickle p;
    Err first = pickle_run(&(PkStream){exact, n, "x", 0}, scratch, &p);
    arena_close(scratch);
    free(exact);
    Err rc = pickle_run(&(PkStream){kept, n, "x", 0}, a, out);
    EXPECT_INT(rc, first);
    return rc;
}
static Err run_text(const char *text, Arena *a, Pickle *out) {
    return run_bytes(text, strlen(text), a, out);
}
static Err run_only(const void *bytes, size_t n) {
    Arena *a = arena_open();
    Pickle p;
    Err rc = run_bytes(bytes, n, a, &p);
    arena_close(a);
    return rc;
}

/* ---- the graph as text (small and acyclic here, so recursion will do) ----------------------------- */
static void print_node(Str *s, const PkNode *x);
static void print_items(Str *s, const PkNode *x, const char *open, const char *close) {
    str_add(s, open);
    for (uint32_t i = 0; i < x->n; i++) {
        if (i) str_add(s, x->kind == PK_DICT && i % 2 ? ": " : ", ");
        print_node(s, x->item[i]);
    }
    str_add(s, close);
}
static void print_object(Str *s, const PkObject *o) {
    const PkNode *part[] = {o->of, o->args, o->state, o->list, o->dict};
    static const char *const label[] = {"", "", "state ", "list ", "dict "};
    str_add(s, "<");
    for (int i = 0; i < 5; i++) {
        if (!part[i]) continue;
        if (i) str_add(s, " ");
        str_add(s, label[i]);
        print_node(s, part[i]);
    }
    str_add(s, ">");
}
static void print_node(Str *s, const PkNode *x) {
    switch ((PkKind)x->kind) {
    case PK_MARK: str_add(s, "MARK"); break;
    case PK_NONE: str_add(s, "None"); break;
    case PK_BOOL: str_add(s, x->i ? "True" : "False"); break;
    case PK_INT: str_addf(s, "%lld", (long long)x->i); break;
    case PK_FLOAT: str_addf(s, "%g", x->f); break;
    case PK_LONG: str_addf(s, "long[%u]", x->n); break;
    case PK_TEXT: str_addf(s, "'%.*s'", (int)x->n, x->n ? x->text : ""); break;
    case PK_BYTES: str_addf(s, "b'%.*s'", (int)x->n, x->n ? x->text : ""); break;
    case PK_GLOBAL: str_addf(s, "%.*s", (int)x->n, x->text); break;
    case PK_TUPLE: print_items(s, x, "(", ")"); break;
    case PK_LIST: print_items(s, x, "[", "]"); break;
    case PK_SET: print_items(s, x, "s{", "}"); break;
    case PK_DICT: print_items(s, x, "{", "}"); break;
    case PK_PERSISTENT: print_items(s, x, "@(", ")"); break;
    case PK_OBJECT: print_object(s, x->object); break;
    }
}
static void expect_prints(const char *stream, size_t n, const char *expected) {
    Arena *a = arena_open();
    Pickle p;
    Str s = {0};
    Err rc = run_bytes(stream, n, a, &p);
    if (rc) FAIL("%s", err_text());
    else {
        print_node(&s, p.root);
        EXPECT_STR(s.s, expected);
        EXPECT_INT(p.bytes, n);
    }
    str_free(&s);
    arena_close(a);
}
#define PRINTS(stream, expected) expect_prints(stream, sizeof stream - 1, expected)

TEST(pythons_pickles_of_every_protocol_read_alike) {
    for (int protocol = 0; protocol <= 5; protocol++) {
        char path[256];
        Bytes b;
        Arena *a = arena_open();
        Pickle p;
        Str s = {0};
        snprintf(path, sizeof path, SOURCE_DIR "/tests/golden/pth/values%d.pkl", protocol);
        EXPECT_OK(sys_read_file(path, 1 << 20, EXIT_MODEL, &b));
        EXPECT_OK(run_bytes(b.data, b.bytes, a, &p));
        print_node(&s, p.root);
        EXPECT_HAS(
            s.s,
            "{'none': None, 'yes': True, 'no': False, 'ints': [0, 255, 65535, -1, 2147483647, -2147483648, "
            "4611686018427387904, -9223372036854775808]");
        EXPECT_HAS(
            s.s,
            "'float': [0.5, -1e+300, inf], 'text': 'a\tb 'q'', 'tuples': ((), (1), (1, 2), (1, 2, 3), (1, 2, 3, 4))");
        EXPECT_HAS(
            s.s,
            "'twice': [[1, (2, -3)], [1, (2, -3)]], 'global': collections\nOrderedDict, 'object': <collections\nOrderedDict (");
        EXPECT_HAS(s.s, ", 7: {}");
        if (protocol >= 2) EXPECT_HAS(s.s, "'wide': long[9]}");
        const PkNode *twice = pickle_get(pickle_dict(p.root), "twice");
        EXPECT(twice && twice->n == 2 && twice->item[0] == twice->item[1]);      /* shared, not copied */
        const PkNode *object = pickle_dict(pickle_get(p.root, "object"));
        if (protocol >= 2) EXPECT(object && object->n == 2 && object->item[1]->i == 1);
        str_free(&s);
        free(b.data);
        arena_close(a);
    }
}
TEST(opcodes_that_python_writes_rarely_are_read) {
    PRINTS("I01\nI00\n\x86.", "(True, False)");
    PRINTS("L-5L\nL7\n\x86.", "(-5, 7)");
    PRINTS("Fnan\nF-inf\nF1e3\n\x87.", "(nan, -inf, 1000)");
    PRINTS("S'a\\n\\x41\\\\'\nS\"b\"\n\x86.", "('a\nA\\', 'b')");
    PRINTS("T\3\0\0\0abcU\2de\x86.", "('abc', 'de')");
    PRINTS("\x8a\0\x8a\1\xff\x8b\2\0\0\0\0\1\x87.", "(0, -1, 256)");
    PRINTS("B\1\0\0\0xC\1y\x8e\1\0\0\0\0\0\0\0z\x87.", "(b'x', b'y', b'z')");
    PRINTS("\x96\1\0\0\0\0\0\0\0w\x8d\1\0\0\0\0\0\0\0v\x86.", "(b'w', 'v')");
    PRINTS("\x8f(K\1K\2\x90(K\3\x91\x86.", "(s{1, 2}, s{3})");
    PRINTS("(K\1K\2l(K\3K\4d\x86.", "([1, 2], {3: 4})");
}
TEST(popping_and_doubling_work_as_in_python) {
    PRINTS("K\1K\0020.", "1");
    PRINTS("K\1(K\2K\0031.", "1");
    PRINTS("K\0012\x86.", "(1, 1)");
    PRINTS("(0K\1.", "1");                               /* POP takes a mark, too */
    PRINTS("]\x94K\1ah\0\x86.", "([1], [1])");
    PRINTS("]p5\nK\1ag5\n\x86.", "([1], [1])");
    PRINTS("]r\1\0\0\0K\1aj\1\0\0\0\x86.", "([1], [1])");
}
TEST(globals_and_calls_are_inert) {
    PRINTS("cos\nsystem\nU\2ls\x85R.", "<os\nsystem ('ls')>");
    PRINTS("U\2osU\6system\x93U\2ls\x85R.", "<os\nsystem ('ls')>");
    PRINTS("(U\2lsios\nsystem\n.", "<os\nsystem ('ls')>");
    PRINTS("(cos\nsystem\nU\2lso.", "<os\nsystem ('ls')>");
    PRINTS("ca\nB\n)\x81}U\1xK\1sb.", "<a\nB () state {'x': 1}>");
    PRINTS("ca\nB\n)}U\1xK\1s\x92.", "<a\nB ((), {'x': 1})>");
    PRINTS("ca\nB\n)RK\1a(K\2K\3eK\4K\5s.", "<a\nB () list [1, 2, 3] dict {4: 5}>");
    PRINTS("ca\nB\n}b.", "<a\nB state {}>");             /* the state of a class */
    PRINTS("Pkey\n)RU\1k\x85Q\x86.", "(<@('key') ()>, @(('k')))");
    PRINTS("ca\nB\n)R)R}b)R.", "<<<a\nB ()> () state {}> ()>");
}

/* ---- what is refused ------------------------------------------------------------------------------ */
TEST(unknown_opcodes_are_refused_with_their_place) {
    static const char known[] = "(.012FIJKLMNPQRSTUVXabcd}eghijl]opqrst)uGBC";
    for (int op = 0; op < 256; op++) {
        const bool is_known = (op && strchr(known, op)) || (op >= 0x80 && op <= 0x98);
        uint8_t stream[] = {'K', 1, (uint8_t)op};
        Err rc = run_only(stream, sizeof stream);
        char place[64];
        snprintf(place, sizeof place, "byte 2: opcode 0x%02x is not known", op);
        if (is_known == (rc && strstr(err_text(), "is not known")))
            FAIL("opcode 0x%02x: %d %s", op, rc, rc ? err_text() : "");
        if (!is_known) EXPECT_HAS(err_text(), place);
        if (!is_known) EXPECT_INT(rc, E(4, 56));
    }
}
/* Every opcode, with every one of these before it and arguments of several kinds after it. */
TEST(every_opcode_in_every_state_is_an_error_or_a_value) {
    static const struct { const char *s; size_t n;
    } BEFORE[] =
        {
#define STATE(s) {s, sizeof s - 1}
            STATE(""),
            STATE("("),
            STATE("N"),
            STATE("NN"),
            STATE("NNN"),
            STATE("(N"),
            STATE("(NN"),
            STATE("N("),
            STATE("K\1(NN"),
            STATE("]"),
            STATE("](NN"),
            STATE("]N"),
            STATE("}"),
            STATE("}(NN"),
            STATE("}(N"),
            STATE("}NN"),
            STATE(")"),
            STATE("ca\nb\n"),
            STATE("ca\nb\n)"),
            STATE("ca\nb\n)}"),
            STATE("ca\nb\n)R"),
            STATE("ca\nb\n)R("),
            STATE("ca\nb\n)R(NN"),
            STATE("ca\nb\n)RNN"),
            STATE("(ca\nb\nN"),
            STATE("U\1a"),
            STATE("U\1aU\1b"),
            STATE("Nq\0"),
            STATE("U\1aQ"),
            STATE("U\1aQ)"),
            STATE("\x8f(N"),
            STATE("((((")
#undef STATE
        },
      AFTER[] = {{"", 0},
                 {".", 1},
                 {"\0.", 2},
                 {"\1a.", 3},
                 {"\1\0\0\0.", 5},
                 {"\1\0\0\0\0\0\0\0a.", 10},
                 {"0\n.", 3},
                 {"'a'\n.", 5},
                 {"a\nb\n.", 5},
                 {"\xff\xff\xff\xff\xff\xff\xff\xff\xff", 9},
                 {"\xff\xff\xff\x7f.", 5}};
    int values = 0;
    for (size_t b = 0; b < sizeof BEFORE / sizeof *BEFORE; b++)
        for (int op = 0; op < 256; op++)
            for (size_t k = 0; k < sizeof AFTER / sizeof *AFTER; k++) {
                uint8_t s[64];
                size_t n = BEFORE[b].n;
                memcpy(s, BEFORE[b].s, n);
                s[n++] = (uint8_t)op;
                memcpy(s + n, AFTER[k].s, AFTER[k].n);
                Err rc = run_only(s, n + AFTER[k].n);
                values += !rc;
                if (rc && rc != E(4, 56) && rc != E(7, 57))
                    FAIL("state %zu, opcode 0x%02x, argument %zu: %d", b, op, k, rc);
            }
    EXPECT(values > 100);
}
TEST(truncation_at_every_byte_is_refused) {
    for (int protocol = 0; protocol <= 5; protocol++) {
        char path[256];
        Bytes b;
        snprintf(path, sizeof path, SOURCE_DIR "/tests/golden/pth/values%d.pkl", protocol);
        EXPECT_OK(sys_read_file(path, 1 << 20, EXIT_MODEL, &b));
        for (size_t n = 0; n < b.bytes; n++) EXPECT_INT(run_only(b.data, n), E(4, 56));
        free(b.data);
    }
}
TEST(tricks_are_refused) {
    static const char *const rows[] = {".",
                                       "(.",
                                       "0.",
                                       "1.",
                                       "K\1"
                                       "1.",
                                       "2.",
                                       "(2.",
                                       "t.",
                                       "a.",
                                       "Na.",
                                       "NNa.",
                                       "NNs.",
                                       "NNNs.",
                                       "(NNNd.",
                                       "}(NNNu.",
                                       "NN(eK\1.",
                                       "R.",
                                       "N)R.",
                                       "U\1a)R.",
                                       "ca\nb\nNR.",
                                       "ca\nb\n]R.",
                                       "I1\n)\x81.",
                                       "ca\nb\nNN\x92.",
                                       "K\1}b.",
                                       "]}b.",
                                       "}}b.",
                                       ")}b.",
                                       "U\1a}b.",
                                       "(o.",
                                       "(K\1o.",
                                       "K\1K\2\x93.",
                                       "U\1aN\x93.",
                                       "h\5.",
                                       "g7\n.",
                                       "j\1\1\1\1.",
                                       "Np-1\n.",
                                       "Npx\n.",
                                       "Ng\n.",
                                       "Ix\n.",
                                       "I1 \n.",
                                       "L99999999999999999999L\n.",
                                       "F1x\n.",
                                       "F\n.",
                                       "Sx\n.",
                                       "S'\n.",
                                       "S'a\n.",
                                       "S'\\q'\n.",
                                       "S'\\x4'\n.",
                                       "\x80\x06N.",
                                       "\x82\1.",
                                       "\x83\1\1.",
                                       "\x84\1\1\1\1.",
                                       "\x97.",
                                       "\x98.",
                                       "N\x95\xff\xff\xff\xff\xff\xff\xff\xffN.",
                                       "Q.",
                                       "q\1.",
                                       "\x94."};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Err rc = run_only(rows[i], strlen(rows[i]));
        if (rc != E(4, 56)) FAIL("row %zu \"%s\": %d", i, rows[i], rc);
        EXPECT_HAS(err_text(), "x: byte");
    }
}

/* ---- limits ---------------------------------------------------------------------------------------- */
static Err run_repeated(const char *head, const char *unit, size_t times, const char *tail) {
    Str s = {0};
    str_add(&s, head);
    for (size_t i = 0; i < times; i++) str_add(&s, unit);
    str_add(&s, tail);
    Arena *a = arena_open();
    Pickle p;
    Err rc = pickle_run(&(PkStream){(const uint8_t *)s.s, s.n, "x", 0}, a, &p);
    arena_close(a);
    str_free(&s);
    return rc;
}
TEST(stack_opcodes_and_memory_have_limits) {
    EXPECT_OK(run_repeated("(", "N", 9999, "t."));
    EXPECT_ERR(run_repeated("(", "N", 10000, "t."), E(7, 57));
    EXPECT_ERR(run_repeated("", "(", 10001, "."), E(7, 57));
    EXPECT_ERR(run_repeated("", "]", 10001, "."), E(7, 57));
    EXPECT_ERR(run_repeated("N", "20", 5000001, "."), E(7, 57));
    EXPECT_HAS(err_text(), "10 million opcodes");
    EXPECT_ERR(run_repeated("]", "}a", 3000000, "."), E(7, 57));
    EXPECT_HAS(err_text(), "memory");
    EXPECT_ERR(run_repeated("N", "2Q0", 300000, "."), E(7, 57));     /* readers keep more of these */
    if (!SANITIZED) EXPECT(sys_peak_rss() < (size_t)200 << 20);
}
TEST(memo_numbers_and_wide_integers_have_limits) {
    EXPECT_ERR(run_only("Nr\xff\xff\xff\xff.", 7), E(7, 57));
    EXPECT_ERR(run_only("Np4000000000\n.", 14), E(7, 57));
    EXPECT_ERR(run_only("Nr\xff\xff\0\0.", 7), E(7, 57));
    EXPECT_OK(run_only("Nq\xff.", 4));
    EXPECT_ERR(run_only("\x8b\xff\xff\xff\x7f.", 6), E(7, 57));
    EXPECT_ERR(run_only("\x8b\xff\xff\xff\xff.", 6), E(7, 57));
    EXPECT_ERR(run_only("\x8b\1\0\1\0.", 6), E(7, 57));
}
/* Ten times ten times ten ... references to one list: ten levels are ten lists. */
TEST(billion_laughs_and_deep_nests_cost_what_they_weigh) {
    Str s = {0};
    str_add(&s, "(U\3lollp0\n0");
    for (int level = 1; level < 30; level++) {
        str_add(&s, "(");
        for (int i = 0; i < 10; i++) str_addf(&s, "g%d\n", level - 1);
        str_addf(&s, "lp%d\n0", level);
    }
    str_add(&s, "g29\n.");
    EXPECT_OK(run_only(s.s, s.n));
    str_free(&s);
    EXPECT_OK(run_repeated("N", "\x85", 400000, "."));   /* a tuple in a tuple in a tuple ... */
    EXPECT_OK(run_only("]q\0h\0a.", 7));                 /* a list that holds itself */
}
/* Foreign code in every dress. Were any of it run, the file would exist. */
TEST(nothing_is_ever_called) {
    static const char *const gadgets[] = {
#define CMD "touch owned"
#include "gadgets.def"
    };
    const int n = sizeof gadgets / sizeof *gadgets;
    int inert = 0;
    EXPECT(!chdir(temp_path("")));
    for (int i = 0; i < n; i++) {
        Arena *a = arena_open();
        Pickle p;
        Err rc = run_text(gadgets[i], a, &p);
        if (rc && rc != E(4, 56)) FAIL("gadget %d: %d", i, rc);
        inert += !rc;
        arena_close(a);
    }
    EXPECT(!sys_exists("owned"));
    EXPECT(n >= 50);
    EXPECT(inert >= 40);                                 /* they were read, not merely stumbled over */
}
TEST_MAIN(T(pythons_pickles_of_every_protocol_read_alike),
          T(opcodes_that_python_writes_rarely_are_read), T(popping_and_doubling_work_as_in_python),
          T(globals_and_calls_are_inert), T(unknown_opcodes_are_refused_with_their_place),
          T(every_opcode_in_every_state_is_an_error_or_a_value),
          T(truncation_at_every_byte_is_refused), T(tricks_are_refused),
          T(stack_opcodes_and_memory_have_limits), T(memo_numbers_and_wide_integers_have_limits),
          T(billion_laughs_and_deep_nests_cost_what_they_weigh), T(nothing_is_ever_called))
