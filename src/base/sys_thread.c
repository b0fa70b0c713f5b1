/* sys_thread.c - threads and the one kind of lock, over pthreads. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/sys.h"

struct Thread {
    pthread_t id;
    void    (*fn)(void *);
    void     *arg;
};
struct Gate {
    pthread_mutex_t mutex;
    pthread_cond_t  cond;
};

static void *thread_main(void *p) {
    Thread *t = p;
    t->fn(t->arg);
    return NULL;
}

Err thread_open(Thread **out, void (*fn)(void *), void *arg) {
    Thread *t = xcalloc(1, sizeof *t);
    *t = (Thread){.fn = fn, .arg = arg};
    int error = pthread_create(&t->id, NULL, thread_main, t);
    if (error) {
        free(t);
        *out = NULL;
        return err_set(
            E(EXIT_LIMIT, 75),
            "threads: cannot start another one: %s; raise the limit (ulimit -u) or set data.workers lower",
            strerror(error));
    }
    *out = t;
    return OK;
}

void thread_join(Thread *t) {
    if (!t) return;
    CHECK(pthread_join(t->id, NULL) == 0);
    free(t);
}

Gate *gate_open(void) {
    Gate *g = xcalloc(1, sizeof *g);
    CHECK(pthread_mutex_init(&g->mutex, NULL) == 0 && pthread_cond_init(&g->cond, NULL) == 0);
    return g;
}

void gate_close(Gate *g) {
    if (!g) return;
    pthread_cond_destroy(&g->cond);
    pthread_mutex_destroy(&g->mutex);
    free(g);
}

void gate_lock(Gate *g) { CHECK(pthread_mutex_lock(&g->mutex) == 0); }
void gate_unlock(Gate *g) { CHECK(pthread_mutex_unlock(&g->mutex) == 0); }
void gate_wait(Gate *g) { CHECK(pthread_cond_wait(&g->cond, &g->mutex) == 0); }
void gate_wake(Gate *g) { CHECK(pthread_cond_broadcast(&g->cond) == 0); }
