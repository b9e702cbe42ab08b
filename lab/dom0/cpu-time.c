/*
 * How long domain 0's processor has run, in nanoseconds, as Xen counts it: everything, interrupts and the
 * kernel's own threads included, and nothing of other domains. Linux's counters sample at ticks.
 *
 * VCPUOP_get_runstate_info is open to every domain for itself and the same in all versions of Xen.
 */
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
	/* Times running, runnable, blocked and offline. Written to, so that its page is there when Xen fills it. */
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
