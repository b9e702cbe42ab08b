/* Prints how long domain 0's processor has run, in nanoseconds, as Xen counts it. That includes
 * interrupts and kernel threads, and no time of other domains. Linux's own counters only sample at
 * ticks.
 *
 * Every domain may call VCPUOP_get_runstate_info for itself, and it is the same in all versions of
 * Xen. */
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define HYPERVISOR_VCPU_OP 24
#define VCPUOP_GET_RUNSTATE_INFO 4

struct hypercall {
	uint64_t op, arguments[5];
};
#define IOCTL_HYPERCALL _IOC(_IOC_NONE, 'P', 0, sizeof(struct hypercall))

int main(void)
{
	/* The times: running, runnable, blocked and offline. Initialized so that its page is present when
	 * Xen writes to it. */
	volatile struct {
		int32_t state;
		uint64_t since, times[4];
	} runstate = {0};
	struct hypercall call = {HYPERVISOR_VCPU_OP, {VCPUOP_GET_RUNSTATE_INFO, 0, (uintptr_t)&runstate}};

	const int fd = open("/dev/xen/privcmd", O_RDWR);
	if (fd < 0)
		err(1, "/dev/xen/privcmd");
	if (ioctl(fd, IOCTL_HYPERCALL, &call))
		err(1, "vcpu_op");
	printf("%llu\n", (unsigned long long)runstate.times[0]);
	return 0;
}
