/* Copyright (c) twisted_socks5 contributors.
 * See LICENSE for details.
 *
 * One client's load on a SOCKS5 server at 127.0.0.1, and the destinations for it.
 *
 *   load conn PORT SECONDS CLIENTS      connect, send a byte, get it back, close; over and over
 *   load bulk PORT SECONDS DOWN UP      as many bytes as go, through DOWN and UP tunnels at once
 *   load ping PORT SECONDS              a byte there and back, over and over, in one tunnel
 *   load idle PORT TUNNELS              open them; when a line comes in, a byte through each
 *   load udp PORT SECONDS WINDOW SIZE   datagrams there and back, WINDOW of them at once
 *
 * Prints a JSON object (idle: one before the line, one after it).  Status 1 and a line on
 * standard error if the server does not serve.
 *
 * The destinations are in a child process, on the loopback interface.  Clients of `conn`
 * go to 64 addresses of it, so that what TIME_WAIT keeps does not use up the server's ports.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CONNECT = 1, ASSOCIATE = 3 };
enum { PATIENCE = 10, DESTINATIONS = 64, PIECE = 256 * 1024, MOST_LATENCIES = 1 << 22 };

static char piece[PIECE];
static uint16_t proxyPort;
static pid_t child;

/* What both processes see. */
static struct {
    atomic_int stop;           /* sources are to close */
    atomic_uint_fast64_t sunk; /* how many bytes the sinks have got */
} *shared;

static uint16_t echoPort, sourcePort, sinkPort, datagramPort;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    if (child > 0) kill(child, SIGKILL);
    exit(1);
}

static struct sockaddr_in address(uint32_t host, uint16_t port) {
    struct sockaddr_in one = {.sin_family = AF_INET, .sin_port = htons(port)};
    one.sin_addr.s_addr = htonl(host);
    return one;
}

static void noDelay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* Closing answers with a reset, and so leaves nothing in TIME_WAIT on this side. */
static void closeHard(int fd) {
    struct linger hard = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd);
}

static void watch(int poll, int operation, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    if (epoll_ctl(poll, operation, fd, &event)) fail("epoll_ctl: %s", strerror(errno));
}

/* -- destinations ----------------------------------------------------------- */

enum { LISTENS_TO_ECHO, LISTENS_AS_SOURCE, LISTENS_AS_SINK, ECHO, SOURCE, SINK, DATAGRAMS };

static int bound(int type, uint16_t *port) {
    int fd = socket(AF_INET, type | SOCK_NONBLOCK, 0), on = 1, large = 4 << 20;
    if (type == SOCK_STREAM) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    else setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &large, sizeof large);
    if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3))
        fail("SO_BINDTODEVICE: %s (needs Linux 5.7)", strerror(errno));
    /* Below the ports that are given out to clients, which fill up. */
    for (int tries = 0; tries < 500; tries++) {
        /* Datagrams are answered from the address that they went to: it has to be one. */
        uint32_t host = type == SOCK_DGRAM ? INADDR_LOOPBACK + 1 : INADDR_ANY;
        struct sockaddr_in here = address(host, *port = 10000 + rand() % 10000);
        if (bind(fd, (void *)&here, sizeof here)) continue;
        if (type == SOCK_DGRAM || !listen(fd, 4096)) return fd;
    }
    fail("no free port for a destination");
    return -1;
}

static void acceptAll(int poll, int listening, uint64_t kind) {
    int fd;
    while ((fd = accept4(listening, 0, 0, SOCK_NONBLOCK)) >= 0) {
        noDelay(fd);
        watch(poll, EPOLL_CTL_ADD, fd, EPOLLIN, kind << 32 | fd);
    }
}

static void echoDatagrams(int fd) {
    struct sockaddr_in from;
    for (;;) {
        socklen_t size = sizeof from;
        ssize_t got = recvfrom(fd, piece, PIECE, 0, (void *)&from, &size);
        if (got < 0) return;
        sendto(fd, piece, got, 0, (void *)&from, size);
    }
}

/* Whether the connection goes on. */
static int serve(int poll, int fd, int kind, uint32_t events) {
    if (kind == SOURCE && atomic_load(&shared->stop)) return 0;
    if (events & EPOLLIN) {
        ssize_t got = read(fd, piece, PIECE);
        if (got <= 0) return got < 0 && errno == EAGAIN;
        if (kind == SINK) atomic_fetch_add(&shared->sunk, got);
        if (kind == ECHO) return write(fd, piece, got) == got;
        if (kind == SOURCE) /* it sends once it is asked to */
            watch(poll, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT, (uint64_t)SOURCE << 32 | fd);
        return 1;
    }
    return events & EPOLLOUT && (write(fd, piece, PIECE) >= 0 || errno == EAGAIN);
}

static void serveForever(int echo, int source, int sink, int datagrams) {
    int poll = epoll_create1(0);
    struct epoll_event events[256];
    watch(poll, EPOLL_CTL_ADD, echo, EPOLLIN, (uint64_t)LISTENS_TO_ECHO << 32 | echo);
    watch(poll, EPOLL_CTL_ADD, source, EPOLLIN, (uint64_t)LISTENS_AS_SOURCE << 32 | source);
    watch(poll, EPOLL_CTL_ADD, sink, EPOLLIN, (uint64_t)LISTENS_AS_SINK << 32 | sink);
    watch(poll, EPOLL_CTL_ADD, datagrams, EPOLLIN, (uint64_t)DATAGRAMS << 32 | datagrams);
    for (;;) {
        int count = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            int kind = events[i].data.u64 >> 32, fd = (int)(uint32_t)events[i].data.u64;
            if (kind == DATAGRAMS) echoDatagrams(fd);
            else if (kind < ECHO) acceptAll(poll, fd, kind + ECHO);
            else if (!serve(poll, fd, kind, events[i].events)) close(fd);
        }
    }
}

static void startDestinations(void) {
    shared = mmap(0, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int echo = bound(SOCK_STREAM, &echoPort), source = bound(SOCK_STREAM, &sourcePort);
    int sink = bound(SOCK_STREAM, &sinkPort), datagrams = bound(SOCK_DGRAM, &datagramPort);
    child = fork();
    if (child < 0) fail("fork: %s", strerror(errno));
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serveForever(echo, source, sink, datagrams);
    }
    close(echo), close(source), close(sink), close(datagrams);
}

/* -- a client --------------------------------------------------------------- */

static void encodeRequest(unsigned char *request, int command, uint32_t host, uint16_t port) {
    struct sockaddr_in to = address(host, port);
    memcpy(request, (unsigned char[]){5, command, 0, 1}, 4);
    memcpy(request + 4, &to.sin_addr, 4);
    memcpy(request + 8, &to.sin_port, 2);
}

static int readExactly(int fd, void *data, size_t count) {
    for (size_t had = 0; had < count;) {
        ssize_t got = read(fd, (char *)data + had, count - had);
        if (got <= 0) return 0;
        had += got;
    }
    return 1;
}

/* A connection whose request was granted, or -1; `told` is what BND said. */
static int granted(int command, uint16_t port, struct sockaddr_in *told) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in proxy = address(INADDR_LOOPBACK, proxyPort);
    struct timeval patience = {PATIENCE, 0};
    unsigned char message[10];
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (void *)&proxy, sizeof proxy)) goto lost;
    noDelay(fd);
    if (write(fd, "\5\1\0", 3) != 3 || !readExactly(fd, message, 2) || message[1]) goto lost;
    encodeRequest(message, command, command == CONNECT ? INADDR_LOOPBACK + 1 : 0, port);
    if (write(fd, message, 10) != 10 || !readExactly(fd, message, 10)) goto lost;
    if (message[1] || message[3] != 1) goto lost;
    if (told) {
        *told = address(INADDR_LOOPBACK, 0);
        memcpy(&told->sin_port, message + 8, 2);
        if (memcmp(message + 4, "\0\0\0\0", 4)) memcpy(&told->sin_addr, message + 4, 4);
    }
    return fd;
lost:
    close(fd);
    return -1;
}

static int byRising(const void *one, const void *other) {
    float a = *(float *)one, b = *(float *)other;
    return (a > b) - (a < b);
}

/* Latencies, in microseconds. */
static float latencies[MOST_LATENCIES];
static long latencyCount;

static void took(double seconds) {
    if (latencyCount < MOST_LATENCIES) latencies[latencyCount++] = seconds * 1e6;
}

static float percentile(int percent) {
    qsort(latencies, latencyCount, sizeof *latencies, byRising);
    return latencyCount ? latencies[(latencyCount - 1) * percent / 100] : 0;
}

/* -- conn ------------------------------------------------------------------- */

struct client {
    enum { CONNECTING, GREETED, REQUESTED, ECHOED } phase;
    int fd;
    unsigned got;
    double began;
    unsigned char answer[10];
};

static void begin(int poll, struct client *one) {
    struct sockaddr_in proxy = address(INADDR_LOOPBACK, proxyPort);
    one->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    one->phase = CONNECTING;
    one->got = 0;
    one->began = now();
    noDelay(one->fd);
    if (connect(one->fd, (void *)&proxy, sizeof proxy) && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    watch(poll, EPOLL_CTL_ADD, one->fd, EPOLLOUT, (uint64_t)(uintptr_t)one);
}

/* 1: it goes on; 0: it has had its byte back; -1: it was not served. */
static int advance(int poll, struct client *one) {
    static const unsigned expected[] = {0, 2, 10, 1};
    static unsigned turn;
    unsigned char request[10];
    if (one->phase == CONNECTING) {
        watch(poll, EPOLL_CTL_MOD, one->fd, EPOLLIN, (uint64_t)(uintptr_t)one);
        one->phase = GREETED;
        return write(one->fd, "\5\1\0", 3) == 3 ? 1 : -1;
    }
    ssize_t got = read(one->fd, one->answer + one->got, expected[one->phase] - one->got);
    if (got <= 0) return -1;
    if ((one->got += got) < expected[one->phase]) return 1;
    one->got = 0;
    switch (one->phase++) {
    case GREETED:
        if (one->answer[1]) return -1;
        encodeRequest(request, CONNECT, INADDR_LOOPBACK + 256 + turn++ % DESTINATIONS, echoPort);
        return write(one->fd, request, 10) == 10 ? 1 : -1;
    case REQUESTED:
        if (one->answer[1] || one->answer[3] != 1) return -1;
        return write(one->fd, "x", 1) == 1 ? 1 : -1;
    default:
        return 0;
    }
}

static void conn(double seconds, int count) {
    int poll = epoll_create1(0), alive = count;
    long failed = 0, inTime = 0;
    struct client *clients = calloc(count, sizeof *clients);
    struct epoll_event events[256];
    double end = now() + seconds;
    for (int i = 0; i < count; i++) begin(poll, &clients[i]);
    while (alive && now() < end + PATIENCE) {
        int ready = epoll_wait(poll, events, 256, 1000);
        for (int i = 0; i < ready; i++) {
            struct client *one = (void *)(uintptr_t)events[i].data.u64;
            int result = advance(poll, one);
            if (result == 1) continue;
            double at = now();
            if (result == 0) took(at - one->began), inTime += at < end;
            else failed++;
            closeHard(one->fd);
            if (at < end) begin(poll, one);
            else alive--;
        }
    }
    printf("{\"connections\": %ld, \"in_time\": %ld, \"failed\": %ld, \"median_us\": %.0f,"
           " \"p99_us\": %.0f}\n",
           latencyCount, inTime, failed + alive, percentile(50), percentile(99));
}

/* -- bulk ------------------------------------------------------------------- */

static void bulk(double seconds, int down, int up) {
    int poll = epoll_create1(0), *fds = calloc(down + up, sizeof *fds), downloading = down;
    uint64_t received = 0, sent = 0;
    for (int i = 0; i < down + up; i++) {
        fds[i] = granted(CONNECT, i < down ? sourcePort : sinkPort, 0);
        if (fds[i] < 0) fail("no tunnel");
        fcntl(fds[i], F_SETFL, O_NONBLOCK);
        watch(poll, EPOLL_CTL_ADD, fds[i], i < down ? EPOLLIN : EPOLLOUT, i);
    }
    struct epoll_event events[64];
    for (int i = 0; i < down; i++)
        if (write(fds[i], "x", 1) != 1) fail("a tunnel was lost");
    double start = now(), end = start + seconds, last = start;
    int uploading = up > 0, stopped = 0;
    /* When time is up nothing more is sent, and all that was must arrive. */
    while (downloading || uploading) {
        int ready = epoll_wait(poll, events, 64, stopped ? 1 : 100);
        double at = now();
        if (at > last + PATIENCE) fail("stalled");
        if (at >= end && !stopped) {
            stopped = 1;
            atomic_store(&shared->stop, 1);
            for (int i = down; i < down + up; i++) epoll_ctl(poll, EPOLL_CTL_DEL, fds[i], 0);
        }
        for (int i = 0; i < ready; i++) {
            int which = events[i].data.u64;
            ssize_t moved;
            if (which < down) {
                moved = read(fds[which], piece, PIECE);
                if (moved > 0) received += moved;
            } else if (stopped) continue;
            else if ((moved = write(fds[which], piece, PIECE)) > 0) sent += moved;
            if (moved > 0) last = at;
            else if (moved < 0 && errno == EAGAIN) continue;
            else if (moved == 0 && which < down && stopped) {
                epoll_ctl(poll, EPOLL_CTL_DEL, fds[which], 0);
                downloading--;
            } else fail("a tunnel was lost");
        }
        if (stopped && uploading && atomic_load(&shared->sunk) == sent) uploading = 0, last = at;
    }
    printf("{\"bytes\": %lu, \"seconds\": %.4f}\n", (unsigned long)(received + sent), last - start);
}

/* -- ping, idle, udp -------------------------------------------------------- */

static void ping(double seconds) {
    int fd = granted(CONNECT, echoPort, 0);
    char octet = 'x';
    if (fd < 0) fail("no tunnel");
    double start = now(), before = start, after;
    do {
        if (write(fd, &octet, 1) != 1 || read(fd, &octet, 1) != 1) fail("no answer");
        took((after = now()) - before);
        before = after;
    } while (after < start + seconds);
    printf("{\"round_trips\": %ld, \"seconds\": %.4f, \"median_us\": %.1f, \"p99_us\": %.1f}\n",
           latencyCount, after - start, percentile(50), percentile(99));
}

static void idle(int count) {
    int *fds = calloc(count, sizeof *fds), opened = 0, alive = 0;
    char octet = 'x';
    double start = now();
    for (int i = 0; i < count; i++)
        if ((fds[i] = granted(CONNECT, echoPort, 0)) >= 0) opened++;
    printf("{\"tunnels\": %d, \"failed\": %d, \"seconds\": %.4f}\n", opened, count - opened,
           now() - start);
    fflush(stdout);
    while (getchar() != '\n' && !feof(stdin)) {}
    for (int i = 0; i < count; i++)
        if (fds[i] >= 0 && write(fds[i], &octet, 1) == 1 && read(fds[i], &octet, 1) == 1) alive++;
    printf("{\"alive\": %d}\n", alive);
}

static void udp(double seconds, int window, size_t size) {
    struct sockaddr_in relay;
    int control = granted(ASSOCIATE, 0, &relay);
    if (control < 0) fail("no association");
    int fd = socket(AF_INET, SOCK_DGRAM, 0), large = 4 << 20, inFlight = 0;
    struct timeval patience = {0, 50000};
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &large, sizeof large);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (void *)&relay, sizeof relay)) fail("connect: %s", strerror(errno));
    unsigned char *datagram = calloc(1, 10 + size);
    encodeRequest(datagram, 0, INADDR_LOOPBACK + 1, datagramPort);
    datagram[0] = 0; /* RSV, where a request has its version */
    long got = 0, lost = 0;
    double start = now(), at = start;
    while (at < start + seconds) {
        while (inFlight < window && send(fd, datagram, 10 + size, 0) > 0) inFlight++;
        ssize_t length = recv(fd, piece, PIECE, 0);
        if (length == (ssize_t)(10 + size)) got++, inFlight--;
        else if (length < 0) lost += inFlight, inFlight = 0; /* nothing for a while */
        else fail("an answer of another size");
        at = now();
    }
    if (!got) fail("no answer");
    printf("{\"round_trips\": %ld, \"lost\": %ld, \"seconds\": %.4f}\n", got, lost, at - start);
}

int main(int argc, char **argv) {
    const char *work = argc > 3 ? argv[1] : "";
    double amount = argc > 3 ? atof(argv[3]) : 0;
    int first = argc > 4 ? atoi(argv[4]) : 0, second = argc > 5 ? atoi(argv[5]) : 0;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    srand(getpid());
    alarm((strcmp(work, "idle") ? amount : 0) + 45); /* whatever the server does */
    proxyPort = argc > 3 ? atoi(argv[2]) : 0;
    startDestinations();
    if (!strcmp(work, "conn")) conn(amount, first);
    else if (!strcmp(work, "bulk")) bulk(amount, first, second);
    else if (!strcmp(work, "ping")) ping(amount);
    else if (!strcmp(work, "idle")) idle(amount);
    else if (!strcmp(work, "udp")) udp(amount, first, second);
    else fail("see the head of load.c");
    fflush(stdout);
    kill(child, SIGKILL);
    waitpid(child, 0, 0);
    return 0;
}
