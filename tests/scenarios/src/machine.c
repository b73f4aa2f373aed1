// What a machine tells a program, in a scenario's hand: its wall clock, and the address of a name.
// Loaded before the C library (LD_PRELOAD); what is not in the scenario's hand goes there.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// The first line of a file that a variable names; 0 if there is none.
static int line(const char *variable, char *text, int size) {
    const char *path = getenv(variable);
    FILE *file = path ? fopen(path, "re") : NULL;
    if (!file) return 0;
    int there = fgets(text, size, file) != NULL;
    fclose(file);
    if (there) text[strcspn(text, "\n")] = 0;
    return there;
}

// SCENARIO_CLOCK: by how many seconds the wall clock is off.
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    char text[32];
    if (result == 0 && clock == CLOCK_REALTIME && line("SCENARIO_CLOCK", text, sizeof text))
        now->tv_sec += atoll(text);
    return result;
}

// SCENARIO_NAMES: the address of vault.scenario.test; without the file names cannot be looked up.
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **result) {
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (!real)
        real = (int (*)(const char *, const char *, const struct addrinfo *,
                        struct addrinfo **))dlsym(RTLD_NEXT, "getaddrinfo");
    char address[64];
    if (!node || strcmp(node, "vault.scenario.test") != 0) return real(node, service, hints, result);
    if (!line("SCENARIO_NAMES", address, sizeof address)) return EAI_AGAIN;
    return real(address, service, hints, result);
}
