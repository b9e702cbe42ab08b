/* Xen's own headers, with the barriers that they expect from the including program. */
#ifndef XEN_H
#define XEN_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define xen_mb() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define xen_rmb() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define xen_wmb() __atomic_thread_fence(__ATOMIC_RELEASE)
#define __XEN_TOOLS__ 1
#include <xen/xen.h>
#include <xen/io/ring.h>
#include <xen/io/blkif.h>

#endif
