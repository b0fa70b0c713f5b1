/* test_sys.c - files, the durable writer, locks, logs, signals, threads. */
#include "base/log.h"
#include "base/progress.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/sys.h"
#include "tempdir.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* Content of a file as text, "" when it cannot be read; static. */
static const char *content(const char *path) {
    static char text[4096];
    Bytes b;
    text[0] = 0;
    if (sys_read_file(path, sizeof text - 1, EXIT_DATA, &b)) return text;
    memcpy(text, b.data, b.bytes + 1);
    free(b.data);
    return text;
}
static int count_files(const char *dir) {
    char **names;
    int n;
    if (sys_list(dir, EXIT_DATA, &names, &n)) return -1;
    sys_free_names(names, n);
    return n;
}

/* ---- reading ----------------------------------------------------------------------------------- */
TEST(only_regular_files_are_read) {
    Bytes b;
    const char *fifo = temp_path("fifo"), *loop = temp_path("loop"), *sock = temp_path("sock");
    EXPECT_INT(mkfifo(fifo, 0600), 0);
    EXPECT_INT(symlink("loop", loop), 0);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof addr.sun_path, "%.100s", sock);
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    EXPECT_INT(bind(s, (struct sockaddr *)&addr, sizeof addr), 0);
    EXPECT_ERR(sys_read_file(fifo, 100, EXIT_DATA, &b), E(3, 44));
    EXPECT_HAS(err_text(), "pipe");
    EXPECT_ERR(sys_read_file(sock, 100, EXIT_DATA, &b), E(3, 44));
    EXPECT_ERR(sys_read_file("/dev/zero", 100, EXIT_DATA, &b), E(3, 44));
    EXPECT_ERR(sys_read_file(temp_path(""), 100, EXIT_DATA, &b), E(3, 44));
    EXPECT_ERR(sys_read_file(loop, 100, EXIT_DATA, &b), E(3, 45));
    EXPECT_ERR(sys_read_file(temp_path("absent"), 100, EXIT_MODEL, &b), E(4, 0));
    EXPECT_HAS(err_text(), "absent: No such file");
    close(s);
}
TEST(file_limits_and_short_reads) {
    const char *path = temp_path("f");
    EXPECT_OK(durable_write_all(path, "0123456789", 10));
    Bytes b;
    EXPECT_ERR(sys_read_file(path, 9, EXIT_DATA, &b), E(3, 0));
    char buf[8] = "";
    EXPECT_OK(sys_read_at(path, 4, buf, 3, EXIT_DATA));
    EXPECT_STR(buf, "456");
    EXPECT_ERR(sys_read_at(path, 8, buf, 3, EXIT_DATA), E(3, 48));
    uint64_t size;
    EXPECT_OK(sys_file_size(path, EXIT_DATA, &size));
    EXPECT_INT(size, 10);
    EXPECT_OK(sys_truncate(path, 3));
    EXPECT_STR(content(path), "012");
}
TEST(names_are_bytes_and_sorted) {
    static const char *const names[] = {"z", "-x", "a\nb", "\xff\xfe", "\"q\"", "A", "tab\t"};
    const char *dir = temp_path("d");
    EXPECT_OK(sys_mkdirs(dir));
    for (size_t i = 0; i < 7; i++) {
        char *p = path_join(dir, names[i]);
        EXPECT_OK(durable_write_all(p, names[i], strlen(names[i])));
        EXPECT_STR(content(p), names[i]);
        free(p);
    }
    char **v;
    int n;
    EXPECT_OK(sys_list(dir, EXIT_DATA, &v, &n));
    EXPECT_INT(n, 7);
    for (int i = 1; i < n; i++) EXPECT(strcmp(v[i - 1], v[i]) < 0);
    sys_free_names(v, n);
    EXPECT_ERR(sys_list(temp_path("absent"), EXIT_DATA, &v, &n), E(3, 0));
}

/* ---- output paths (rows 7 and 9) --------------------------------------------------------------- */
TEST(mkdirs_and_probe) {
    EXPECT_OK(sys_mkdirs(temp_path("a/b/c")));
    EXPECT_OK(sys_mkdirs(temp_path("a/b/c")));
    EXPECT_OK(sys_probe_writable(temp_path("a/b/c")));
    EXPECT_INT(count_files(temp_path("a/b/c")), 0);
    EXPECT_OK(durable_write_all(temp_path("file"), "x", 1));
    EXPECT_ERR(sys_mkdirs(temp_path("file")), E(6, 9));
    EXPECT_ERR(sys_mkdirs(temp_path("file/below")), E(6, 9));
    EXPECT_ERR(sys_probe_writable(temp_path("file")), E(6, 9));
    EXPECT_STR(content(temp_path("file")), "x");
}
TEST(read_only_folder_is_refused_before_any_work) {
    const char *dir = temp_path("ro");
    EXPECT_INT(mkdir(dir, 0555), 0);
    EXPECT_INT(chmod(temp_path(""), 0755), 0);
    pid_t pid = fork();                         /* root writes everywhere, so the child becomes nobody */
    if (pid == 0) {
        if (geteuid() == 0 && setuid(65534)) _exit(77);
        Err probe = sys_probe_writable(dir);
        _exit(probe == E(6, 7) && durable_write_all(temp_path("ro/f"), "x", 1) == E(6, 7) ? 0 : 1);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    if (WEXITSTATUS(status) == 77) SKIP("root cannot become another user here");
    EXPECT_INT(status, 0);
}
TEST(output_over_a_fifo_folder_or_dangling_link_is_refused) {
    EXPECT_INT(mkfifo(temp_path("fifo"), 0600), 0);
    EXPECT_INT(mkdir(temp_path("dir"), 0700), 0);
    EXPECT_INT(symlink("nowhere", temp_path("dangling")), 0);
    static const char *const names[] = {"fifo", "dir", "dangling", "absent/x"};
    for (int i = 0; i < 4; i++) EXPECT_ERR(durable_write_all(temp_path(names[i]), "x", 1), E(6, 9));
    Appender *a;
    EXPECT_ERR(append_open(temp_path("dir"), &a), E(6, 9));
    EXPECT_ERR(append_open(temp_path("fifo"), &a), E(6, 9));
    EXPECT_INT(count_files(temp_path("")), 3);
}

/* ---- the durable writer ------------------------------------------------------------------------ */
static Err refuse(const char *tmp) {
    return sys_exists(tmp) ? err_set(E(6, 5), "%s: does not read back", tmp) : E(1, 0);
}
TEST(durable_appears_only_after_commit) {
    const char *path = temp_path("f");
    DurableFile *f;
    EXPECT_OK(durable_write_all(path, "old", 3));
    EXPECT_OK(durable_open(path, 100, &f));
    EXPECT_OK(durable_write(f, "new", 3));
    EXPECT_STR(content(path), "old");
    EXPECT_INT(count_files(temp_path("")), 2);
    EXPECT_OK(durable_commit(f, NULL));
    EXPECT_STR(content(path), "new");           /* 3 bytes, not the 100 reserved */
    EXPECT_OK(durable_open(path, 0, &f));
    EXPECT_OK(durable_write(f, "bad", 3));
    EXPECT_ERR(durable_commit(f, refuse), E(6, 5));
    EXPECT_OK(durable_open(path, 0, &f));
    durable_abort(f);
    durable_abort(NULL);
    EXPECT_STR(content(path), "new");
    EXPECT_INT(count_files(temp_path("")), 1);
}
TEST(durable_replaces_what_a_link_points_to) {
    EXPECT_OK(durable_write_all(temp_path("target"), "old", 3));
    EXPECT_INT(symlink("target", temp_path("link")), 0);
    EXPECT_OK(durable_write_all(temp_path("link"), "new", 3));
    struct stat st;
    EXPECT_INT(lstat(temp_path("link"), &st), 0);
    EXPECT(S_ISLNK(st.st_mode));
    EXPECT_STR(content(temp_path("target")), "new");
}
TEST(durable_file_size_limit_leaves_the_old_file) {
    sys_catch_signals();                         /* SIGXFSZ must not kill us */
    const char *path = temp_path("f");
    static char big[100000];
    EXPECT_OK(durable_write_all(path, "old", 3));
    struct rlimit limit = {50000, 50000};
    EXPECT_INT(setrlimit(RLIMIT_FSIZE, &limit), 0);
    EXPECT_ERR(durable_write_all(path, big, sizeof big), E(6, 6));       /* at the reservation */
    DurableFile *f;
    EXPECT_OK(durable_open(path, 0, &f));
    EXPECT_ERR(durable_write(f, big, sizeof big), E(6, 6));              /* at the write */
    EXPECT_ERR(durable_write(f, "x", 1), E(6, 6));                       /* and it stays failed */
    EXPECT_ERR(durable_commit(f, NULL), E(6, 6));
    EXPECT_STR(content(path), "old");
    EXPECT_INT(count_files(temp_path("")), 1);
}
TEST(durable_full_disk_leaves_the_old_file) {
    static char mount_point[512];
    snprintf(mount_point, sizeof mount_point, "%s", temp_path("disk"));
    EXPECT_INT(mkdir(mount_point, 0700), 0);
    if (mount("tmpfs", mount_point, "tmpfs", 0, "size=64k"))
        SKIP("cannot mount a small tmpfs: %s", strerror(errno));
    char *path = path_join(mount_point, "f");
    static char big[100000];
    Err old = durable_write_all(path, "old", 3), at_open = durable_write_all(path, big, sizeof big);
    char *first = xstrdup(err_text());
    DurableFile *f = NULL;
    Err opened = durable_open(path, 0, &f), at_write = f ? durable_write(f, big, sizeof big) : OK;
    durable_abort(f);
    int files = count_files(mount_point);
    char *text = xstrdup(content(path));
    umount2(mount_point, MNT_DETACH);            /* before any expectation can return */
    EXPECT_INT(old, OK);
    EXPECT_INT(at_open, E(6, 3));
    EXPECT_HAS(first, "100000 bytes needed");
    EXPECT_INT(opened, OK);
    EXPECT_INT(at_write, E(6, 3));
    EXPECT_STR(text, "old");
    EXPECT_INT(files, 1);
    free(path), free(text), free(first);
}
TEST(killed_writer_leaves_old_or_new_and_sweep_cleans) {
    const char *path = temp_path("f"), *dir = temp_path("");
    static char a[300000], b[300000];
    memset(a, 'a', sizeof a), memset(b, 'b', sizeof b);
    EXPECT_OK(durable_write_all(path, a, sizeof a));
    for (int round = 0; round < 40; round++) {
        pid_t pid = fork();
        if (pid == 0) {
            for (int i = 0;; i++) durable_write_all(path, i % 2 ? a : b, sizeof a);
        }
        usleep((useconds_t)(round * 137 % 3000));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        Bytes got;
        EXPECT_OK(sys_read_file(path, sizeof a, EXIT_DATA, &got));
        EXPECT_INT(got.bytes, sizeof a);
        EXPECT(!memcmp(got.data, a, sizeof a) || !memcmp(got.data, b, sizeof b));
        free(got.data);
    }
    durable_sweep(dir);
    EXPECT_INT(count_files(dir), 1);
}
TEST(sweep_spares_living_writers_and_strangers) {
    char own[512], live[512];
    snprintf(own, sizeof own, "x.tmp-%s-%d", sys_hostname(), sys_pid());
    snprintf(live, sizeof live, "x.tmp-%s-%d", sys_hostname(), (int)getppid());
    EXPECT_OK(durable_write_all(temp_path("keep.tmp-elsewhere-1"), "x", 1));
    EXPECT_OK(durable_write_all(temp_path("notes.txt"), "x", 1));
    EXPECT_OK(durable_write_all(temp_path(live), "x", 1));
    EXPECT_OK(durable_write_all(temp_path(own), "x", 1));
    durable_sweep(temp_path(""));
    EXPECT(sys_exists(temp_path("keep.tmp-elsewhere-1")) && sys_exists(temp_path("notes.txt")) &&
           sys_exists(temp_path(live)));
    EXPECT(!sys_exists(temp_path(own)));         /* of an earlier process with our number: none is open */
}

/* ---- append, lock ------------------------------------------------------------------------------ */
TEST(append_mends_torn_lines_and_reports_once) {
    sys_catch_signals();
    const char *path = temp_path("log");
    EXPECT_OK(durable_write_all(path, "one\ntw", 6));
    Appender *a;
    EXPECT_OK(append_open(path, &a));
    EXPECT_OK(append_line(a, "three"));
    EXPECT_STR(content(path), "one\ntw\nthree\n");
    EXPECT_INT(append_bytes(a), 13);
    struct rlimit before, limit;
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before, limit.rlim_cur = 16;
    setrlimit(RLIMIT_FSIZE, &limit);
    EXPECT_ERR(append_line(a, "four-five"), E(6, 4));
    EXPECT_OK(append_line(a, "lost"));           /* reported once */
    setrlimit(RLIMIT_FSIZE, &before);
    EXPECT_OK(append_line(a, "six"));
    EXPECT_STR(content(path), "one\ntw\nthree\nfou\nsix\n");
    EXPECT_OK(append_sync(a));
    append_close(a);
}
TEST(second_lock_names_the_first) {
    DirLock *first, *second;
    EXPECT_OK(lock_open(temp_path(""), &first));
    EXPECT_ERR(lock_open(temp_path(""), &second), E(2, 10));
    char want[64];
    snprintf(want, sizeof want, "process %d on %s", sys_pid(), sys_hostname());
    EXPECT_HAS(err_text(), want);
    lock_close(first);
    EXPECT_OK(lock_open(temp_path(""), &second));
    lock_close(second);
}
TEST(lock_of_a_killed_process_is_taken_over) {
    int ready[2];
    char c;
    EXPECT_INT(pipe(ready), 0);
    const char *dir = temp_path("");
    pid_t pid = fork();
    if (pid == 0) {
        DirLock *l;
        if (lock_open(dir, &l) || write(ready[1], "x", 1) != 1) _exit(1);
        for (;;) pause();
    }
    EXPECT_INT(read(ready[0], &c, 1), 1);
    DirLock *l;
    EXPECT_ERR(lock_open(dir, &l), E(2, 10));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    EXPECT_OK(lock_open(dir, &l));
    lock_close(l);
}

/* ---- log --------------------------------------------------------------------------------------- */
/* Run fn with stderr going to a file; returns what it wrote (static). */
static const char *captured(void (*fn)(void)) {
    const char *path = temp_path("stderr");
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600), saved = dup(2);
    dup2(fd, 2);
    fn();
    dup2(saved, 2);
    close(fd), close(saved);
    return content(path);
}
static void write_lines(void) {
    log_info("two\nlines \x1b[2J");
    log_warn("careful");
    log_warn("careful"); /* said already */
    log_line(LOG_DEBUG, "not shown");
    log_error_line(E(3, 34), "a\x1b: text");
}
TEST(log_lines_are_escaped_and_copied_to_the_file) {
    static const char want[] = "two\nlines \\x1b[2J\nwarning: careful\nerror E3034 a\\x1b: text\n";
    Appender *a;
    EXPECT_OK(append_open(temp_path("log.txt"), &a));
    log_attach(a);
    EXPECT_STR(captured(write_lines), want);
    log_attach(NULL);
    append_close(a);
    EXPECT_STR(content(temp_path("log.txt")), want);
}
static void progress(void) {
    for (int i = 0; i < 1000; i++) log_progress("step %d", i);
    log_progress_end();
}
TEST(progress_without_a_terminal_is_plain_and_rare) {
    EXPECT_STR(captured(progress), "step 0\nstep 999\n");
}

static Progress steady(double each, int done, int total) {
    Progress p = {.what = "evaluating val", .unit = "images", .total = total};
    for (int i = 1; i <= done; i++) progress_note(&p, i, each * i);
    return p;
}
TEST(time_left_is_that_of_a_steady_pace) {
    for (int done = 1; done < 100; done++) {
        const Progress p = steady(0.5, done, 100);
        EXPECT_NEAR(progress_left(&p, 0.5 * done), 0.5 * (100 - done), 1e-9);
    }
    const Progress none = steady(0.5, 0, 100), endless = steady(0.5, 9, 0);
    EXPECT(isnan(progress_left(&none, 3)) && isnan(progress_left(&endless, 5)));
}
TEST(time_left_forgets_a_slow_start) {
    Progress p = {.unit = "images", .total = 101};
    progress_note(&p, 1, 60);                        /* a plan is made: a minute for the first image */
    for (int i = 2; i <= 80; i++) progress_note(&p, i, 60 + i - 1.0);
    EXPECT_NEAR(progress_left(&p, 139), 21, 1e-9);   /* a mean would say 36.5 */
    p.until = 149;                                   /* the loop ends by the clock */
    EXPECT_NEAR(progress_left(&p, 139), 10, 1e-9);
}
TEST(progress_lines_have_a_bar_on_terminals_only) {
    const Progress p = steady(2, 25, 100), all = steady(2, 100, 100);
    char *plain = progress_line(&p, 50, false), *bar = progress_line(&p, 50, true),
         *end = progress_line(&all, 200, false);
    EXPECT_STR(plain, "evaluating val 25/100 images, 0.5/s, 0:02:30 left");
    EXPECT_STR(bar, "evaluating val [=====               ] 25/100 images, 0.5/s, 0:02:30 left");
    EXPECT_STR(end, "evaluating val 100/100 images, 0.5/s, took 0:03:20");
    free(plain), free(bar), free(end);
    EXPECT_STR(duration_text(3723.4).s, "1:02:03");
    EXPECT_STR(duration_text(NAN).s, "-");
}
static void quick_loop(void) {
    Progress p = progress_start("files", 3, "looking");
    for (int i = 0; i < 3; i++) progress_to(&p, i + 1);
    progress_end(&p);
}
static void slow_loop(void) {
    Progress p = progress_start("files", 1000, "looking");
    p.start -= 5, p.mark[0].time -= 5, p.mark[1].time -= 5;
    for (int i = 0; i < 1000; i++) progress_to(&p, i + 1);
    progress_end(&p);
}
TEST(progress_is_silent_for_two_seconds_then_plain_and_rare) {
    EXPECT_STR(captured(quick_loop), "");
    const char *text = captured(slow_loop), *second = strchr(text, '\n');
    EXPECT(!strncmp(text, "looking 1/1000 files, 0.2/s, 1:23:15 left\n", 42));
    EXPECT(second && !strncmp(second, "\nlooking 1000/1000 files, ", 26));
    EXPECT(second && strchr(second + 1, '\n') == text + strlen(text) - 1);      /* two lines in all */
}

/* ---- signals, machine, threads ----------------------------------------------------------------- */
static int status_of(pid_t pid) {
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}
TEST(first_signal_sets_a_flag_second_exits) {
    static const int signals[] = {SIGINT, SIGTERM, SIGUSR1};
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            sys_catch_signals();
            raise(signals[i]);
            if (sys_signal_pending() != signals[i]) _exit(1);
            raise(SIGPIPE), raise(SIGHUP), raise(SIGXFSZ);
            raise(signals[i]);
            _exit(2);
        }
        EXPECT_INT(status_of(pid), 128 + signals[i]);
    }
}
static int overflow_stack(int n) {
    volatile char block[4096];
    block[n % 4096] = 1;
    return n > 1 << 28 ? 0 : overflow_stack(n + 1) + block[0];
}
static void crash(void) {
    for (int how = 0; how < 3; how++) {
        pid_t pid = fork();
        if (pid == 0) {
            sys_catch_signals();
            if (how == 0) raise(SIGSEGV);
            if (how == 1) abort();
            _exit(overflow_stack(0) & 1);
        }
        EXPECT_INT(status_of(pid), how == 1 ? 134 : 139);
    }
}
TEST(crash_ends_with_a_line_and_128_plus_signal) {
    struct sigaction old;
    sigaction(SIGSEGV, NULL, &old);
    if (old.sa_handler != SIG_DFL) SKIP("a sanitizer handles crashes here");
    EXPECT_HAS(captured(crash), "error E1022 internal crash, signal 11;");
    EXPECT_HAS(content(temp_path("stderr")), "signal 06;");
}
TEST(check_exits_with_one) {
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(1 + 1 == 3);
        _exit(0);
    }
    EXPECT_INT(status_of(pid), 1);
}
TEST(machine_facts_are_sane) {
    char wall[32];
    sys_wall_time(wall);
    EXPECT_INT(strlen(wall), 20);
    EXPECT(sys_cpus() >= 1 && sys_mem_available() > 1 << 20 && sys_peak_rss() > 1 << 16);
    EXPECT(sys_rss() > 1 << 16 && sys_rss() <= sys_peak_rss() + (1 << 20));
    double t = sys_now();
    EXPECT(sys_now() >= t);
    EXPECT(*sys_hostname() && *sys_cache_dir());
}
typedef struct { Gate *gate; int turn, sum; } Shared;
static void worker(void *arg) {
    Shared *s = arg;
    for (int i = 0; i < 1000; i++) {
        gate_lock(s->gate);
        while (s->turn != 1) gate_wait(s->gate);
        s->sum++, s->turn = 0;
        gate_wake(s->gate);
        gate_unlock(s->gate);
    }
}
TEST(gate_passes_turns_between_threads) {
    Shared s = {.gate = gate_open()};
    Thread *t;
    EXPECT_OK(thread_open(&t, worker, &s));
    for (int i = 0; i < 1000; i++) {
        gate_lock(s.gate);
        while (s.turn != 0) gate_wait(s.gate);
        s.turn = 1;
        gate_wake(s.gate);
        gate_unlock(s.gate);
    }
    thread_join(t);
    gate_close(s.gate);
    EXPECT_INT(s.sum, 1000);
}

TEST_MAIN(T(only_regular_files_are_read), T(file_limits_and_short_reads),
          T(names_are_bytes_and_sorted), T(mkdirs_and_probe),
          T(read_only_folder_is_refused_before_any_work),
          T(output_over_a_fifo_folder_or_dangling_link_is_refused),
          T(durable_appears_only_after_commit), T(durable_replaces_what_a_link_points_to),
          T(durable_file_size_limit_leaves_the_old_file), T(durable_full_disk_leaves_the_old_file),
          T(killed_writer_leaves_old_or_new_and_sweep_cleans),
          T(sweep_spares_living_writers_and_strangers), T(append_mends_torn_lines_and_reports_once),
          T(second_lock_names_the_first), T(lock_of_a_killed_process_is_taken_over),
          T(log_lines_are_escaped_and_copied_to_the_file),
          T(progress_without_a_terminal_is_plain_and_rare), T(time_left_is_that_of_a_steady_pace),
          T(time_left_forgets_a_slow_start), T(progress_lines_have_a_bar_on_terminals_only),
          T(progress_is_silent_for_two_seconds_then_plain_and_rare),
          T(first_signal_sets_a_flag_second_exits), T(crash_ends_with_a_line_and_128_plus_signal),
          T(check_exits_with_one), T(machine_facts_are_sane), T(gate_passes_turns_between_threads))
