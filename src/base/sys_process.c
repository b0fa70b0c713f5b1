/* sys_process.c - clocks, the machine, signals. */
#include "base/sys.h"

#include <langinfo.h>
#include <locale.h>
#include <sys/ioctl.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/sys_priv.h"

/* ---- clocks ---------------------------------------------------------------------------------- */
uint64_t sys_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

double sys_now(void) { return (double)sys_now_ns() * 1e-9; }

void sys_wall_time(char out[32]) {
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

double sys_wall_age(const char *text) {
    struct tm tm = {0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return end && !*end ? difftime(time(NULL), timegm(&tm)) : NAN;
}

void sys_sleep(double seconds) {
    const time_t whole = (time_t)seconds;
    nanosleep(&(struct timespec){whole, (long)((seconds - (double)whole) * 1e9)}, NULL);
}

/* ---- the machine ----------------------------------------------------------------------------- */
/* First number of a one-line kernel file, or `otherwise` ("max", absent). */
static uint64_t kernel_number(const char *path, uint64_t otherwise) {
    uint64_t v = otherwise;
    FILE *f = fopen(path, "re");
    if (!f) return v;
    if (fscanf(f, "%" SCNu64, &v) != 1) v = otherwise;
    fclose(f);
    return v;
}

/* The number after "NAME" in a file of "NAME NUMBER" lines. */
static uint64_t kernel_field(const char *path, const char *name, uint64_t otherwise) {
    char line[256];
    uint64_t v = otherwise;
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (str_starts(line, name) && sscanf(line + strlen(name), "%" SCNu64, &v) == 1) break;
    if (f) fclose(f);
    return v;
}

/* Affinity mask, and the quota of the container when there is one (cgroup v2: "QUOTA PERIOD"). */
int sys_cpus(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN)
                                                   : CPU_COUNT(&set);
    long long quota = 0, period = 0;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (f && fscanf(f, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0) {
        long long limit = (quota + period - 1) / period;
        if (limit < n) n = (int)limit;
    }
    if (f) fclose(f);
    return n > 0 ? n : 1;
}

uint64_t sys_mem_available(void) {
    uint64_t avail = kernel_field("/proc/meminfo", "MemAvailable:", UINT64_MAX / 2048) * 1024;
    uint64_t limit = kernel_number("/sys/fs/cgroup/memory.max", UINT64_MAX);
    if (limit == UINT64_MAX) return avail;
    uint64_t used = kernel_number("/sys/fs/cgroup/memory.current", 0);
    uint64_t cache = kernel_field("/sys/fs/cgroup/memory.stat", "inactive_file ", 0);     /* given back when asked for */
    used -= cache < used ? cache : used;
    uint64_t left = limit > used ? limit - used : 0;
    return left < avail ? left : avail;
}

uint64_t sys_peak_rss(void) {
    struct rusage r;
    return getrusage(RUSAGE_SELF, &r) ? 0 : (uint64_t)r.ru_maxrss * 1024;
}

uint64_t sys_rss(void) {
    unsigned long long total, resident;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f) return 0;
    const int n = fscanf(f, "%llu %llu", &total, &resident);
    fclose(f);
    return n == 2 ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

bool sys_isatty(int fd) { return isatty(fd) == 1; }

int sys_columns(int fd) {
    struct winsize w;
    return !ioctl(fd, TIOCGWINSZ, &w) ? w.ws_col : 0;
}

bool sys_utf8(void) {
    locale_t l = newlocale(LC_CTYPE_MASK, "", (locale_t)0);  /* the program's own locale stays as it is */
    const bool yes = l && !strcmp(nl_langinfo_l(CODESET, l), "UTF-8");
    if (l) freelocale(l);
    return yes;
}
int  sys_pid(void) { return (int)getpid(); }

/* Texts found once per process. */
static struct { char host[256], cache[4096], test_data[4096], cpu[128]; } found;
static pthread_once_t host_once = PTHREAD_ONCE_INIT, cache_once = PTHREAD_ONCE_INIT,
                      test_data_once = PTHREAD_ONCE_INIT, cpu_once = PTHREAD_ONCE_INIT;

static void find_host(void) {
    if (gethostname(found.host, sizeof found.host - 1) || !found.host[0])
        strcpy(found.host, "localhost");
    for (char *p = found.host; *p; p++)
        if (*p == '/' || (unsigned char)*p <= ' ') *p = '_';      /* it becomes part of file names */
}

const char *sys_hostname(void) {
    pthread_once(&host_once, find_host);
    return found.host;
}

/* "model name : Intel(R) ..." of the first processor; tabs and line ends would end a field. */
static void find_cpu(void) {
    char line[256], *colon;
    FILE *f = fopen("/proc/cpuinfo", "re");
    strcpy(found.cpu, "an unknown processor");
    while (f && fgets(line, sizeof line, f)) {
        if (!str_starts(line, "model name") || !(colon = strchr(line, ':'))) continue;
        snprintf(found.cpu, sizeof found.cpu, "%s", colon + 1 + strspn(colon + 1, " "));
        break;
    }
    if (f) fclose(f);
    for (char *p = found.cpu; *p; p++)
        if ((unsigned char)*p < ' ') *p = p[1] ? ' ' : 0;
}

const char *sys_cpu_name(void) {
    pthread_once(&cpu_once, find_cpu);
    return found.cpu;
}

static void find_cache(void) {
    const char *own = getenv("RETORT_CACHE"), *xdg = getenv("XDG_CACHE_HOME"),
               *home = getenv("HOME");
    if (own && *own) snprintf(found.cache, sizeof found.cache, "%s", own);
    else if (xdg && *xdg) snprintf(found.cache, sizeof found.cache, "%s/retort", xdg);
    else if (home && *home) snprintf(found.cache, sizeof found.cache, "%s/.cache/retort", home);
    else snprintf(found.cache, sizeof found.cache, "/tmp/retort-cache-%d", (int)getuid());
}

const char *sys_cache_dir(void) {
    pthread_once(&cache_once, find_cache);
    return found.cache;
}

/* Walk up from `start` to the checkout (the folder with CMakeLists.txt and src); the data lie beside it. */
static bool find_shared(const char *start) {
    char dir[4096], probe[4160];
    snprintf(dir, sizeof dir, "%s", start);
    while (*dir) {
        snprintf(probe, sizeof probe, "%s/src/base/sys.h", dir);
        if (sys_exists(probe)) {
            snprintf(probe, sizeof probe, "%s/../shared", dir);
            if (sys_is_dir(probe) && strlen(probe) < sizeof found.test_data)
                return strcpy(found.test_data, probe), true;
        }
        char *slash = strrchr(dir, '/');
        if (!slash) break;
        *slash = 0;
    }
    return false;
}

static void find_test_data(void) {
    const char *own = getenv("RETORT_TEST_DATA");
    char at[4096];
    if (own && *own) {
        snprintf(found.test_data, sizeof found.test_data, "%s", own);
        return;
    }
    ssize_t n = readlink("/proc/self/exe", at, sizeof at - 1);
    at[n > 0 ? n : 0] = 0;
    if (!find_shared(at) && getcwd(at, sizeof at)) find_shared(at);
}

const char *sys_test_data(void) {
    pthread_once(&test_data_once, find_test_data);
    return found.test_data[0] ? found.test_data : NULL;
}

/* ---- signals --------------------------------------------------------------------------------- */
static atomic_int pending;

static void on_stop(int sig) {
    int none = 0;
    if (!atomic_compare_exchange_strong(&pending, &none, sig)) _exit(128 + sig);
}

/* Only async-safe calls: the heap may be broken, so nothing is saved and nothing formatted. */
static void on_crash(int sig) {
    static const char text[] =
        "error E1022 internal crash, signal 00; checkpoints on disk are intact, start again to go on; please report this\n";
    char line[sizeof text];
    memcpy(line, text, sizeof text);
    char *digits = line + sizeof "error E1022 internal crash, signal " - 1;
    digits[0] = (char)('0' + sig / 10), digits[1] = (char)('0' + sig % 10);
    if (write(STDERR_FILENO, line, sizeof text - 1)) {}
    _exit(128 + sig);
}

/* A closed descriptor 0, 1 or 2 would be given to the next file opened, and lines for people would go there. */
static void reserve_standard_fds(void) {
    int fd;
    do fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO) close(fd);
}

static void set_handler(int sig, void (*fn)(int), int flags) {
    struct sigaction sa = {.sa_handler = fn, .sa_flags = flags};
    sigemptyset(&sa.sa_mask);
    sigaction(sig, &sa, NULL);
}

void sys_catch_signals(void) {
    static const int stops[] = {SIGINT, SIGTERM, SIGUSR1}, ignored[] = {SIGPIPE, SIGXFSZ, SIGHUP};
    static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    static _Alignas(16) char stack[64 * 1024];          /* for the handler when the stack itself overflowed */
    reserve_standard_fds();
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++)
        set_handler(stops[i], on_stop, SA_RESTART);
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        set_handler(ignored[i], SIG_IGN, 0);
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++) {
        struct sigaction old;
        bool taken = !sigaction(crashes[i], NULL, &old) && old.sa_handler != SIG_DFL;   /* a sanitizer's: says more than ours */
        if (!taken) set_handler(crashes[i], on_crash, (int)(SA_ONSTACK | SA_RESETHAND));
    }
}

static _Thread_local double deadline;
_Static_assert(LATE == 128 + SIGALRM, "as if the kernel had sent it");

void sys_set_deadline(double until) { deadline = until; }
bool sys_late(void) { return deadline > 0 && sys_now() > deadline; }

/* `retort stop` is as good as a signal. */
static atomic_bool asked;
int sys_signal_pending(void) {
    int none = 0;
    if (!atomic_load(&pending) && sys_any_stop_asked() &&
        atomic_compare_exchange_strong(&pending, &none, SIGUSR1))
        atomic_store(&asked, true);
    const int sig = atomic_load(&pending);
    return !sig && sys_late() ? SIGALRM : sig;
}
Err sys_poll(void) {
    const int sig = sys_signal_pending();
    return sig ? err_set(128 + sig, "stopped by signal %d", sig) : OK;
}
bool sys_stop_asked(void) { return atomic_load(&asked); }
