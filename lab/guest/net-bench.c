/* Moves data through a network card for a guest's programs, checks it and measures it. The same
 * program is the peer, in another domain:
 *
 *   net-bench serve PORT               answers the others on TCP and UDP, IPv4 and IPv6
 *
 *   net-bench send HOST PORT BYTES     one TCP connection; both sides compute a checksum
 *   net-bench receive HOST PORT BYTES
 *   net-bench datagrams HOST PORT FROM TO STEP
 *                                      UDP: a datagram of each size is echoed and compared
 *
 *   net-bench stream-out HOST PORT SECONDS         TCP as fast as it goes, unchecked
 *   net-bench stream-in HOST PORT SECONDS
 *   net-bench round-trips HOST PORT SECONDS        TCP, one byte there and back
 *   net-bench packets-out HOST PORT SECONDS BYTES  UDP datagrams of that size; counts arrivals
 *   net-bench packets-in HOST PORT SECONDS BYTES
 *
 * Each prints one line of JSON, such as {"bytes":N,"seconds":S,"checksum":"..."}. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Bytes of one write: four GSO segments, so that TCP can fill each. */
#define CHUNK (256 * 1024)
/* Datagrams of one system call, so that the card is measured and not the calls. */
#define BATCH 32
/* Bytes of datagrams that wait for their echo: less than the smallest queue on the way. */
#define WINDOW_BYTES (64 * 1024)
#define LARGEST_DATAGRAM 65507
/* Milliseconds without an arrival after which nothing more is in flight. */
#define QUIET_MS 200

enum operation { SEND = 1, RECEIVE, ROUND_TRIPS, PACKETS_OUT, PACKETS_IN };

/* First bytes of a TCP connection, from the client. Both sides are x86. */
struct request {
	uint32_t operation;
	/* UDP port of the client, for PACKETS_IN. */
	uint32_t port;
	/* RECEIVE: bytes to send; UINT64_MAX: until the client closes. PACKETS_IN: size of a datagram. */
	uint64_t amount;
};

/* The server's answer to SEND at the end of the data, to PACKETS_OUT twice: the UDP port in `amount`
 * first, and the number of arrivals at the end. */
struct answer {
	uint64_t amount, checksum;
};

static char data[CHUNK] __attribute__((aligned(8)));

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* xorshift64: the same stream of words on both sides. */
static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* Fills `data` and continues the checksum. A checksum depends on the order of the words. */
static void fill(uint64_t *seed, uint64_t *checksum)
{
	for (size_t i = 0; i < CHUNK; i += 8) {
		const uint64_t word = next_random(seed);

		memcpy(data + i, &word, 8);
		*checksum = (*checksum ^ word) * 0x100000001b3;
	}
}

static void read_fully(int fd, void *into, size_t length)
{
	for (size_t got = 0; got < length;) {
		const ssize_t n = read(fd, (char *)into + got, length - got);

		if (n < 0)
			err(1, "read");
		if (n == 0)
			errx(1, "the peer closed after %zu of %zu bytes", got, length);
		got += n;
	}
}

static void write_fully(int fd, const void *from, size_t length)
{
	for (size_t put = 0; put < length;) {
		const ssize_t n = write(fd, (const char *)from + put, length - put);

		if (n < 0)
			err(1, "write");
		put += n;
	}
}

/* Sends `amount` bytes of the checked stream, a multiple of CHUNK. Returns their checksum. */
static uint64_t send_checked(int fd, uint64_t amount)
{
	uint64_t seed = 0x9e3779b97f4a7c15, checksum = 0;

	for (uint64_t sent = 0; sent < amount; sent += CHUNK) {
		fill(&seed, &checksum);
		write_fully(fd, data, CHUNK);
	}
	return checksum;
}

/* Reads until the peer closes, or until `amount` bytes. Returns the number of bytes. The checksum
 * is only computed if asked for, since measurements don't need it. */
static uint64_t receive(int fd, uint64_t amount, uint64_t *checksum, double until)
{
	uint64_t total = 0;
	size_t filled = 0;

	while (total < amount && (until == 0 || now() < until)) {
		const ssize_t n = read(fd, data + filled, CHUNK - filled);

		if (n < 0)
			err(1, "read");
		if (n == 0)
			break;
		total += n;
		if (!checksum)
			continue;
		filled += n;
		if (filled < CHUNK)
			continue;
		for (size_t i = 0; i < CHUNK; i += 8) {
			uint64_t word;

			memcpy(&word, data + i, 8);
			*checksum = (*checksum ^ word) * 0x100000001b3;
		}
		filled = 0;
	}
	return total;
}

/* A UDP socket with room for a burst. */
static int datagram_socket(uint16_t port)
{
	const int fd = socket(AF_INET6, SOCK_DGRAM, 0), off = 0, room = 8 << 20;
	const struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) ||
	    bind(fd, (const struct sockaddr *)&any, sizeof(any)))
		err(1, "UDP port %u", port);
	return fd;
}

static uint16_t port_of(int fd)
{
	struct sockaddr_in6 name;
	socklen_t length = sizeof(name);

	if (getsockname(fd, (struct sockaddr *)&name, &length))
		err(1, "getsockname");
	return ntohs(name.sin6_port);
}

static struct mmsghdr *batch_of(size_t bytes)
{
	static struct mmsghdr messages[BATCH];
	static struct iovec vectors[BATCH];

	for (int i = 0; i < BATCH; i++) {
		vectors[i] = (struct iovec){data + (bytes <= CHUNK / BATCH ? i * bytes : 0), bytes};
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
	}
	return messages;
}

/* Sends a batch on a connected socket. Returns how many datagrams were sent. */
static int send_batch(int fd, struct mmsghdr *messages)
{
	const int n = sendmmsg(fd, messages, BATCH, 0);

	if (n >= 0)
		return n;
	/* An interface's full queue drops datagrams: that is what is measured. */
	if (errno == ENOBUFS || errno == ECONNREFUSED)
		return 0;
	err(1, "sendmmsg");
}

/* Counts the datagrams that wait. */
static uint64_t count_arrivals(int fd, struct mmsghdr *messages)
{
	uint64_t arrivals = 0;

	for (;;) {
		const int n = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);

		if (n < 0 && (errno == EAGAIN || errno == ECONNREFUSED))
			return arrivals;
		if (n < 0)
			err(1, "recvmmsg");
		arrivals += n;
	}
}

/* Counts until `stop`, a TCP connection, closes and nothing more arrives. */
static uint64_t count_packets(int fd, int stop)
{
	struct mmsghdr *messages = batch_of(CHUNK / BATCH);
	struct pollfd both[] = {{.fd = fd, .events = POLLIN}, {.fd = stop, .events = POLLIN}};
	uint64_t arrivals = 0;

	while (poll(both, 2, -1) > 0 && !both[1].revents)
		arrivals += count_arrivals(fd, messages);
	while (poll(both, 1, QUIET_MS) > 0)
		arrivals += count_arrivals(fd, messages);
	return arrivals;
}

static void send_packets(int fd, int stop, const struct sockaddr_in6 *to, size_t bytes)
{
	struct mmsghdr *messages = batch_of(bytes);
	struct pollfd closed = {.fd = stop, .events = POLLIN};

	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)))
		err(1, "connect");
	while (poll(&closed, 1, 0) == 0)
		send_batch(fd, messages);
}

static void answer_connection(int fd, struct sockaddr_in6 peer)
{
	struct request request;
	struct answer answer = {0};

	read_fully(fd, &request, sizeof(request));
	switch (request.operation) {
	case SEND:
		answer.amount = receive(fd, UINT64_MAX, request.amount ? &answer.checksum : NULL, 0);
		write_fully(fd, &answer, sizeof(answer));
		break;
	case RECEIVE:
		if (request.amount == UINT64_MAX)
			while (write(fd, data, CHUNK) > 0)
				;
		else
			answer.checksum = send_checked(fd, request.amount);
		break;
	case ROUND_TRIPS: {
		char byte;

		while (read(fd, &byte, 1) == 1)
			write_fully(fd, &byte, 1);
		break;
	}
	case PACKETS_OUT: {
		const int udp = datagram_socket(0);

		answer.amount = port_of(udp);
		write_fully(fd, &answer, sizeof(answer));
		answer.amount = count_packets(udp, fd);
		write_fully(fd, &answer, sizeof(answer));
		break;
	}
	case PACKETS_IN:
		peer.sin6_port = htons(request.port);
		send_packets(datagram_socket(0), fd, &peer, request.amount);
		break;
	default:
		errx(1, "operation %u", request.operation);
	}
}

static void echo_datagrams(int fd)
{
	for (;;) {
		struct sockaddr_in6 peer;
		socklen_t length = sizeof(peer);
		const ssize_t n = recvfrom(fd, data, CHUNK, 0, (struct sockaddr *)&peer, &length);

		/* A datagram that can't be answered counts as lost at its sender. */
		if (n >= 0)
			sendto(fd, data, n, 0, (struct sockaddr *)&peer, length);
	}
}

static void serve(uint16_t port)
{
	const int tcp = socket(AF_INET6, SOCK_STREAM, 0), on = 1, off = 0;
	const struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	const int udp = datagram_socket(port);

	if (tcp < 0 || setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    setsockopt(tcp, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) ||
	    bind(tcp, (const struct sockaddr *)&any, sizeof(any)) || listen(tcp, 16))
		err(1, "TCP port %u", port);
	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		echo_datagrams(udp);
	}
	puts("ready");
	fflush(stdout);
	for (;;) {
		struct sockaddr_in6 peer;
		socklen_t length = sizeof(peer);
		const int fd = accept(tcp, (struct sockaddr *)&peer, &length);

		if (fd < 0)
			continue;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (fork() == 0) {
			close(tcp);
			answer_connection(fd, peer);
			exit(0);
		}
		close(fd);
	}
}

/* An IPv4 address is written as an IPv6 one, so that there is one kind of socket. */
static struct sockaddr_in6 address_of(const char *host, const char *port)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(atoi(port))};
	char mapped[64];

	snprintf(mapped, sizeof(mapped), "%s%s", strchr(host, ':') ? "" : "::ffff:", host);
	if (inet_pton(AF_INET6, mapped, &address.sin6_addr) != 1)
		errx(2, "\"%s\" is no address", host);
	return address;
}

static int connect_to(struct sockaddr_in6 address, struct request request)
{
	const int fd = socket(AF_INET6, SOCK_STREAM, 0), on = 1;

	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)))
		err(1, "connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	write_fully(fd, &request, sizeof(request));
	return fd;
}

static void print_bytes(uint64_t bytes, double seconds, uint64_t checksum)
{
	printf("{\"bytes\":%llu,\"seconds\":%.6f,\"checksum\":\"%016llx\"}\n", (unsigned long long)bytes,
	       seconds, (unsigned long long)checksum);
}

static void finish_sending(int fd, uint64_t bytes, double begin, uint64_t checksum)
{
	struct answer answer;

	shutdown(fd, SHUT_WR);
	read_fully(fd, &answer, sizeof(answer));
	if (answer.amount != bytes || answer.checksum != checksum)
		errx(1, "sent %llu bytes with checksum %llx, %llu with %llx arrived",
		     (unsigned long long)bytes, (unsigned long long)checksum,
		     (unsigned long long)answer.amount, (unsigned long long)answer.checksum);
	print_bytes(bytes, now() - begin, checksum);
}

static void run_datagrams(struct sockaddr_in6 address, size_t from, size_t to, size_t step)
{
	const int fd = datagram_socket(0);
	static char back[LARGEST_DATAGRAM + 1];
	uint64_t seed = 0x9e3779b97f4a7c15, ignored = 0, sizes = 0;

	fill(&seed, &ignored);
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)))
		err(1, "connect");
	for (size_t size = from; size <= to;) {
		size_t first = size, bytes = 0;

		/* A few datagrams are in flight, because a round trip of each takes long in an emulator. */
		for (; size <= to && bytes < WINDOW_BYTES; size += step) {
			if (send(fd, data + size % 4096 * 8, size, 0) != (ssize_t)size)
				err(1, "send of %zu bytes", size);
			bytes += size + WINDOW_BYTES / BATCH;
		}
		for (; first < size; first += step) {
			struct pollfd arrived = {.fd = fd, .events = POLLIN};

			if (poll(&arrived, 1, 10000) != 1)
				errx(1, "a datagram of %zu bytes was lost", first);
			const ssize_t n = recv(fd, back, sizeof(back), 0);
			if (n < 0)
				err(1, "recv after %zu bytes", first);
			/* Each size has its own content. */
			if ((size_t)n != first || memcmp(back, data + first % 4096 * 8, first))
				errx(1, "a datagram of %zu bytes came back with %zd other ones", first, n);
			sizes++;
		}
	}
	printf("{\"sizes\":%llu}\n", (unsigned long long)sizes);
}

static void print_packets(uint64_t sent, uint64_t arrived, double seconds)
{
	printf("{\"sent\":%llu,\"arrived\":%llu,\"seconds\":%.6f}\n", (unsigned long long)sent,
	       (unsigned long long)arrived, seconds);
}

static void run_packets_out(struct sockaddr_in6 address, double seconds, size_t bytes)
{
	const int control = connect_to(address, (struct request){.operation = PACKETS_OUT});
	const int fd = datagram_socket(0);
	struct mmsghdr *messages = batch_of(bytes);
	struct answer answer;
	uint64_t sent = 0;

	read_fully(control, &answer, sizeof(answer));
	address.sin6_port = htons(answer.amount);
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)))
		err(1, "connect");
	const double begin = now();
	while (now() - begin < seconds)
		sent += send_batch(fd, messages);
	const double took = now() - begin;
	shutdown(control, SHUT_WR);
	read_fully(control, &answer, sizeof(answer));
	print_packets(sent, answer.amount, took);
}

static void run_packets_in(struct sockaddr_in6 address, double seconds, size_t bytes)
{
	const int fd = datagram_socket(0);
	struct pollfd arrived = {.fd = fd, .events = POLLIN};
	struct mmsghdr *messages = batch_of(CHUNK / BATCH);
	uint64_t count = 0;

	connect_to(address, (struct request){PACKETS_IN, port_of(fd), bytes});
	if (poll(&arrived, 1, 10000) != 1)
		errx(1, "no datagram arrives");
	const double begin = now();
	while (now() - begin < seconds) {
		poll(&arrived, 1, 10);
		count += count_arrivals(fd, messages);
	}
	print_packets(0, count, now() - begin);
}

static void run_client(const char *name, struct sockaddr_in6 address, char **args)
{
	const double amount = strtod(args[0], NULL);
	const double begin = now();
	uint64_t bytes = 0, checksum = 0;

	if (strcmp(name, "send") == 0) {
		bytes = (uint64_t)amount / CHUNK * CHUNK;
		const int fd = connect_to(address, (struct request){SEND, 0, bytes});
		checksum = send_checked(fd, bytes);
		finish_sending(fd, bytes, begin, checksum);
	} else if (strcmp(name, "receive") == 0) {
		bytes = (uint64_t)amount / CHUNK * CHUNK;
		const int fd = connect_to(address, (struct request){RECEIVE, 0, bytes});
		uint64_t seed = 0x9e3779b97f4a7c15, expected = 0;
		const uint64_t got = receive(fd, UINT64_MAX, &checksum, 0);
		const double took = now() - begin;

		for (uint64_t each = 0; each < bytes; each += CHUNK)
			fill(&seed, &expected);
		if (got != bytes || checksum != expected)
			errx(1, "received %llu of %llu bytes, with checksum %llx instead of %llx",
			     (unsigned long long)got, (unsigned long long)bytes, (unsigned long long)checksum,
			     (unsigned long long)expected);
		print_bytes(bytes, took, checksum);
	} else if (strcmp(name, "stream-out") == 0) {
		const int fd = connect_to(address, (struct request){.operation = SEND});
		while (now() - begin < amount) {
			write_fully(fd, data, CHUNK);
			bytes += CHUNK;
		}
		finish_sending(fd, bytes, begin, 0);
	} else if (strcmp(name, "stream-in") == 0) {
		const int fd = connect_to(address, (struct request){RECEIVE, 0, UINT64_MAX});
		bytes = receive(fd, UINT64_MAX, NULL, begin + amount);
		print_bytes(bytes, now() - begin, 0);
	} else if (strcmp(name, "round-trips") == 0) {
		const int fd = connect_to(address, (struct request){.operation = ROUND_TRIPS});
		char byte = 0;
		for (; now() - begin < amount; bytes++) {
			write_fully(fd, &byte, 1);
			read_fully(fd, &byte, 1);
		}
		printf("{\"round_trips\":%llu,\"seconds\":%.6f}\n", (unsigned long long)bytes, now() - begin);
	} else if (strcmp(name, "packets-out") == 0 && args[1]) {
		run_packets_out(address, amount, atoi(args[1]));
	} else if (strcmp(name, "packets-in") == 0 && args[1]) {
		run_packets_in(address, amount, atoi(args[1]));
	} else if (strcmp(name, "datagrams") == 0 && args[1] && args[2]) {
		run_datagrams(address, amount, atoi(args[1]), atoi(args[2]));
	} else {
		errx(2, "\"%s\" isn't known, or has too few arguments", name);
	}
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		serve(atoi(argv[2]));
	if (argc < 5)
		errx(2, "usage: net-bench serve PORT | OPERATION HOST PORT AMOUNT [BYTES | TO STEP]");
	run_client(argv[1], address_of(argv[2], argv[3]), argv + 4);
	return 0;
}
