/*
 * Sends junk of a knock's length to one UDP port, at a bounded rate, for a bounded time.
 *
 *     flood ADDRESS PORT PACKETS_PER_SECOND SECONDS
 *
 * It is for the network namespaces of the tests: any address but a private one (10.0.0.0/8, fc00::/7) is refused.
 * Each packet has 288 to 512 random bytes and one of 64 source ports. The last line says how many were sent, in how
 * long, and the rate that was reached.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { SOCKETS = 64, BATCH = 64, SHORTEST = 288, LONGEST = 512, MOST_PER_SECOND = 2000000, MOST_SECONDS = 120 };

static uint64_t state;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what)
{
    fprintf(stderr, "flood: %s\n", what);
    exit(1);
}

/* Fills in the address; refuses all but private ones. */
static socklen_t parse_target(const char *text, int port, struct sockaddr_storage *target)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)target;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)target;
    memset(target, 0, sizeof *target);
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        if (ntohl(v4->sin_addr.s_addr) >> 24 != 10)
            die("only addresses in 10.0.0.0/8");
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        return sizeof *v4;
    }
    if (inet_pton(AF_INET6, text, &v6->sin6_addr) != 1)
        die("not an address");
    if ((v6->sin6_addr.s6_addr[0] & 0xfe) != 0xfc)
        die("only addresses in fc00::/7");
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons((uint16_t)port);
    return sizeof *v6;
}

static void open_sockets(int *sockets, int family)
{
    for (int i = 0; i < SOCKETS; i++) {
        sockets[i] = socket(family, SOCK_DGRAM, 0);
        if (sockets[i] < 0)
            die("socket");
    }
}

int main(int argc, char **argv)
{
    static uint64_t data[BATCH][LONGEST / 8];
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
    struct sockaddr_storage target;
    int sockets[SOCKETS];

    if (argc != 5)
        die("ADDRESS PORT PACKETS_PER_SECOND SECONDS");
    int port = atoi(argv[2]);
    double rate = atof(argv[3]), seconds = atof(argv[4]);
    if (port < 1 || port > 65535 || rate < 1 || rate > MOST_PER_SECOND || seconds <= 0 || seconds > MOST_SECONDS)
        die("port, rate or time out of bounds");

    socklen_t length = parse_target(argv[1], port, &target);
    open_sockets(sockets, target.ss_family);
    state = (uint64_t)time(NULL) * 2654435761u + 88172645463325252u;
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < BATCH; i++) {
        parts[i].iov_base = data[i];
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
        messages[i].msg_hdr.msg_name = &target;
        messages[i].msg_hdr.msg_namelen = length;
    }

    double begun = now(), passed;
    uint64_t sent = 0, batch = 0;
    while ((passed = now() - begun) < seconds) {
        double ahead = (double)sent / rate - passed;
        if (ahead > 0) {
            struct timespec pause = {0, (long)((ahead > 0.001 ? 0.001 : ahead) * 1e9)};
            nanosleep(&pause, NULL);
            continue;
        }
        for (int i = 0; i < BATCH; i++) {
            for (int word = 0; word < LONGEST / 8; word++)
                data[i][word] = next_random();
            parts[i].iov_len = SHORTEST + next_random() % (LONGEST - SHORTEST + 1);
        }
        int done = sendmmsg(sockets[batch++ % SOCKETS], messages, BATCH, 0);
        if (done > 0)
            sent += (uint64_t)done;
        else if (errno != ECONNREFUSED && errno != ENOBUFS && errno != EAGAIN && errno != EPERM)
            die(strerror(errno));
    }
    printf("%llu packets in %.2f s, %.0f a second\n", (unsigned long long)sent, passed, (double)sent / passed);
    return 0;
}
