/* Preloaded into Debian's xenstored, so that it runs as an ordinary process on a machine without
 * Xen. Calls to the hypervisor are answered from the folder that it runs in, XENSTORED_RUNDIR:
 *
 *   domains/DOMID/        the domain exists for as long as this does
 *   domains/DOMID/ring    the page that it grants to xenstored
 *   domains/DOMID/evtchn  unix socket on which it waits for xenstored to bind to its event channel
 *   virq                  the same for VIRQ_DOM_EXC
 *
 * An event is a byte on a connection to such a socket. Several unread bytes are one event. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xenevtchn.h>
#include <xengnttab.h>

#define PAGE_SIZE 4096
#define PORTS 64

/* A dummy for handles that are only compared with NULL. */
static int handle;

/* A path in the run folder, valid until the next call. */
__attribute__((format(printf, 1, 2))) static const char *in_run_folder(const char *format, ...)
{
    static char path[PATH_MAX];
    va_list arguments;
    int length = snprintf(path, sizeof path, "%s/", getenv("XENSTORED_RUNDIR"));

    va_start(arguments, format);
    vsnprintf(path + length, sizeof path - length, format, arguments);
    va_end(arguments);
    return path;
}

/* Domains. xenstored asks for one at a time. */

xc_interface *xc_interface_open(xentoollog_logger *logger, xentoollog_logger *dombuild_logger, unsigned flags)
{
    (void)logger, (void)dombuild_logger, (void)flags;
    return (xc_interface *)&handle;
}

int xc_interface_close(xc_interface *xch)
{
    (void)xch;
    return 0;
}

int xc_domain_getinfo(xc_interface *xch, uint32_t domid, unsigned max, xc_dominfo_t *info)
{
    int before = errno;
    int is_missing = access(in_run_folder("domains/%u", domid), F_OK);

    (void)xch, (void)max;
    errno = before; /* see clock_gettime */
    if (is_missing)
        return 0;
    *info = (xc_dominfo_t){ .domid = domid, .running = 1 };
    return 1;
}

/* Grants. xenstored maps only the page at GNTTAB_RESERVED_XENSTORE. */

xengnttab_handle *xengnttab_open(xentoollog_logger *logger, unsigned flags)
{
    (void)logger, (void)flags;
    return (xengnttab_handle *)&handle;
}

int xengnttab_close(xengnttab_handle *xgt)
{
    (void)xgt;
    return 0;
}

int xengnttab_set_max_grants(xengnttab_handle *xgt, uint32_t count)
{
    (void)xgt, (void)count;
    return 0;
}

void *xengnttab_map_grant_ref(xengnttab_handle *xgt, uint32_t domid, uint32_t ref, int prot)
{
    int fd = open(in_run_folder("domains/%u/ring", domid), O_RDWR | O_CLOEXEC);
    void *page = fd < 0 ? MAP_FAILED : mmap(NULL, PAGE_SIZE, prot, MAP_SHARED, fd, 0);

    (void)xgt, (void)ref;
    if (fd >= 0)
        close(fd);
    if (page != MAP_FAILED)
        return page;
    errno = EINVAL; /* as gntdev fails when nothing is granted */
    return NULL;
}

int xengnttab_unmap(xengnttab_handle *xgt, void *address, uint32_t count)
{
    (void)xgt;
    return munmap(address, count * PAGE_SIZE);
}

/* Event channels. A port is the index of its connection. VIRQ_DOM_EXC is bound first. */

enum { VIRQ_PORT = 1 };

static int connections[PORTS];
static int bound; /* epoll of all connections, which xenstored polls */

xenevtchn_handle *xenevtchn_open(xentoollog_logger *logger, unsigned flags)
{
    (void)logger, (void)flags;
    for (int port = 0; port < PORTS; port++)
        connections[port] = -1;
    bound = epoll_create1(EPOLL_CLOEXEC);
    return bound < 0 ? NULL : (xenevtchn_handle *)&handle;
}

int xenevtchn_fd(xenevtchn_handle *xce)
{
    (void)xce;
    return bound;
}

static xenevtchn_port_or_error_t bind_to(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct epoll_event readable = { .events = EPOLLIN };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int port = VIRQ_PORT;

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    while (port < PORTS && connections[port] >= 0)
        port++;
    if (port < PORTS && connect(fd, (struct sockaddr *)&address, sizeof address) == 0 && epoll_ctl(bound, EPOLL_CTL_ADD, fd, &readable) == 0) {
        connections[port] = fd;
        return port;
    }
    close(fd);
    errno = EINVAL; /* as evtchn fails when no port is open */
    return -1;
}

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *xce, unsigned virq)
{
    (void)xce, (void)virq;
    return bind_to(in_run_folder("virq"));
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *xce, uint32_t domid, evtchn_port_t remote_port)
{
    (void)xce, (void)remote_port;
    return bind_to(in_run_folder("domains/%u/evtchn", domid));
}

int xenevtchn_unbind(xenevtchn_handle *xce, evtchn_port_t port)
{
    (void)xce;
    close(connections[port]);
    connections[port] = -1;
    return 0;
}

int xenevtchn_notify(xenevtchn_handle *xce, evtchn_port_t port)
{
    (void)xce;
    /* This fails if the socket is full, when an event is pending anyway, or if the peer has gone.
     */
    send(connections[port], "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    return 0;
}

/* Returns the lowest pending port, so VIRQ_DOM_EXC is reported before anything that a domain sent
 * after it. */
xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *xce)
{
    char bytes[4096];
    int before = errno;

    (void)xce;
    for (int port = VIRQ_PORT; port < PORTS; port++) {
        ssize_t count = connections[port] < 0 ? -1 : recv(connections[port], bytes, sizeof bytes, MSG_DONTWAIT);

        errno = before; /* see clock_gettime */
        if (count > 0)
            return port;
        if (count == 0) /* The domain has gone: its socket would stay readable for ever. */
            epoll_ctl(bound, EPOLL_CTL_DEL, connections[port], NULL);
    }
    return 0; /* no port: xenstored ignores it, but would end on an error */
}

int xenevtchn_unmask(xenevtchn_handle *xce, evtchn_port_t port)
{
    /* xenstored unmasks after it has handled the event. The process that raised the virq waits for
     * this byte. */
    return port == VIRQ_PORT ? xenevtchn_notify(xce, port) : 0;
}

/* Domain 0's page and port are files of its kernel; this redirects both. */
int open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list arguments;

    va_start(arguments, flags);
    if (flags & O_CREAT)
        mode = va_arg(arguments, mode_t);
    va_end(arguments);
    if (strcmp(path, "/proc/xen/xsd_kva") == 0)
        path = in_run_folder("domains/0/ring");
    if (strcmp(path, "/proc/xen/xsd_port") == 0) {
        int ends[2];

        if (pipe(ends) != 0 || write(ends[1], "1", 1) != 1)
            return -1;
        close(ends[1]);
        return ends[0];
    }
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

/* A clock that advances by a second per call. xenstored reads it before each request that counts
 * against the limit of writes, 200 a second for all domains. So the limit never delays a request.
 *
 * xenstored also reads it before it waits for requests. It answers some malformed requests with the
 * errno of the last failed call. If errno were 0, it would send no answer, take that for a bug and
 * abort. EINVAL is the answer it intends. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    static time_t seconds;

    (void)clock;
    *now = (struct timespec){ .tv_sec = ++seconds };
    errno = EINVAL;
    return 0;
}

/* Sends xenstored's log messages to standard error, above all complaints about a corrupt store. */
void __syslog_chk(int priority, int flag, const char *format, ...)
{
    va_list arguments;

    (void)priority, (void)flag;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}
