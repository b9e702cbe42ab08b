/*
 * Sizes, offsets and constants as Xen's own headers define them. Nothing here runs. Each value is a
 * record in the object file: "golden NAME", and the value 64 bytes further on. golden-records.ts
 * reads the records. So -m32 works without a 32-bit libc, and the integer types come from the
 * compiler.
 */
typedef __UINT8_TYPE__ uint8_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;
typedef __INT8_TYPE__ int8_t;
typedef __INT16_TYPE__ int16_t;
typedef __INT32_TYPE__ int32_t;
typedef __INT64_TYPE__ int64_t;

/* From this interface version on, the headers use the name grant_entry_v1. */
#define __XEN_INTERFACE_VERSION__ 0x0003020a
#include <stddef.h>
#include <xen/xen.h>
#include <xen/grant_table.h>
#include <xen/event_channel.h>
#include <xen/io/blkif.h>
#include <xen/io/console.h>
#include <xen/io/fsif.h>
#include <xen/io/kbdif.h>
#include <xen/io/netif.h>
#include <xen/io/protocols.h>
#include <xen/io/xenbus.h>
#include <xen/io/xs_wire.h>

#define SIZE(type) { "golden sizeof " #type, sizeof(struct type) }
#define AT(type, field) { "golden " #type "." #field, offsetof(struct type, field) }
/* A member whose type has no tag in C, under the name that this package gives it. */
#define MEMBER(type, path) (((struct type *)0)->path)
#define PART(name, type, path) { "golden sizeof " #name, sizeof(MEMBER(type, path)) }
#define UNION(name, type, path) \
    PART(name, type, path), \
    { "golden alignof " #name, __alignof__(MEMBER(type, path)) }
#define PART_AT(name, field, type, path) \
    { "golden " #name "." #field, offsetof(struct type, path.field) - offsetof(struct type, path) }
#define VALUE(name) { "golden " #name, (int32_t)(name) }
#define SLOTS(order) { "golden slots " #order, __CONST_RING_SIZE(blkif, 4096u << order) }

const struct {
    char name[64];
    int32_t value;
} golden[] = {
    { "golden sizeof sring", offsetof(struct blkif_sring, ring) },
    { "golden sring.req_prod", offsetof(struct blkif_sring, req_prod) },
    { "golden sring.req_event", offsetof(struct blkif_sring, req_event) },
    { "golden sring.rsp_prod", offsetof(struct blkif_sring, rsp_prod) },
    { "golden sring.rsp_event", offsetof(struct blkif_sring, rsp_event) },
    { "golden sring.pvt", offsetof(struct blkif_sring, pvt) },
    { "golden sring.pad", offsetof(struct blkif_sring, __pad) },
    { "golden sizeof slot", sizeof(union blkif_sring_entry) },
    SLOTS(0), SLOTS(1), SLOTS(2), SLOTS(3), SLOTS(4),

    SIZE(blkif_request_segment),
    AT(blkif_request_segment, gref),
    AT(blkif_request_segment, first_sect),
    AT(blkif_request_segment, last_sect),
    SIZE(blkif_request),
    AT(blkif_request, operation),
    AT(blkif_request, nr_segments),
    AT(blkif_request, handle),
    AT(blkif_request, id),
    AT(blkif_request, sector_number),
    AT(blkif_request, seg),
    SIZE(blkif_request_discard),
    AT(blkif_request_discard, operation),
    AT(blkif_request_discard, flag),
    AT(blkif_request_discard, handle),
    AT(blkif_request_discard, id),
    AT(blkif_request_discard, sector_number),
    AT(blkif_request_discard, nr_sectors),
    SIZE(blkif_request_indirect),
    AT(blkif_request_indirect, operation),
    AT(blkif_request_indirect, indirect_op),
    AT(blkif_request_indirect, nr_segments),
    AT(blkif_request_indirect, id),
    AT(blkif_request_indirect, sector_number),
    AT(blkif_request_indirect, handle),
    AT(blkif_request_indirect, indirect_grefs),
    SIZE(blkif_response),
    AT(blkif_response, id),
    AT(blkif_response, operation),
    AT(blkif_response, status),
    SIZE(grant_entry_v1),
    AT(grant_entry_v1, flags),
    AT(grant_entry_v1, domid),
    AT(grant_entry_v1, frame),
    SIZE(xsd_sockmsg),
    AT(xsd_sockmsg, type),
    AT(xsd_sockmsg, req_id),
    AT(xsd_sockmsg, tx_id),
    AT(xsd_sockmsg, len),
    AT(xenstore_domain_interface, req),
    AT(xenstore_domain_interface, rsp),
    AT(xenstore_domain_interface, req_cons),
    AT(xenstore_domain_interface, req_prod),
    AT(xenstore_domain_interface, rsp_cons),
    AT(xenstore_domain_interface, rsp_prod),
    AT(xenstore_domain_interface, server_features),
    AT(xenstore_domain_interface, connection),
    AT(xenstore_domain_interface, error),

    SIZE(netif_tx_request),
    AT(netif_tx_request, gref),
    AT(netif_tx_request, offset),
    AT(netif_tx_request, flags),
    AT(netif_tx_request, id),
    AT(netif_tx_request, size),
    SIZE(netif_tx_response),
    AT(netif_tx_response, id),
    AT(netif_tx_response, status),
    SIZE(netif_rx_request),
    AT(netif_rx_request, id),
    AT(netif_rx_request, pad),
    AT(netif_rx_request, gref),
    SIZE(netif_rx_response),
    AT(netif_rx_response, id),
    AT(netif_rx_response, offset),
    AT(netif_rx_response, flags),
    AT(netif_rx_response, status),
    SIZE(netif_extra_info),
    AT(netif_extra_info, type),
    AT(netif_extra_info, flags),
    AT(netif_extra_info, u),
    UNION(netif_extra_u, netif_extra_info, u),
    PART(netif_extra_gso, netif_extra_info, u.gso),
    PART_AT(netif_extra_gso, size, netif_extra_info, u.gso),
    PART_AT(netif_extra_gso, type, netif_extra_info, u.gso),
    PART_AT(netif_extra_gso, pad, netif_extra_info, u.gso),
    PART_AT(netif_extra_gso, features, netif_extra_info, u.gso),
    PART(netif_extra_mcast, netif_extra_info, u.mcast),
    PART_AT(netif_extra_mcast, addr, netif_extra_info, u.mcast),
    PART(netif_extra_hash, netif_extra_info, u.hash),
    PART_AT(netif_extra_hash, type, netif_extra_info, u.hash),
    PART_AT(netif_extra_hash, algorithm, netif_extra_info, u.hash),
    PART_AT(netif_extra_hash, value, netif_extra_info, u.hash),
    SIZE(xen_netif_ctrl_request),
    AT(xen_netif_ctrl_request, id),
    AT(xen_netif_ctrl_request, type),
    AT(xen_netif_ctrl_request, data),
    SIZE(xen_netif_ctrl_response),
    AT(xen_netif_ctrl_response, id),
    AT(xen_netif_ctrl_response, type),
    AT(xen_netif_ctrl_response, status),
    AT(xen_netif_ctrl_response, data),
    SIZE(xen_netif_gref),
    AT(xen_netif_gref, ref),
    AT(xen_netif_gref, flags),
    AT(xen_netif_gref, status),
    { "golden slot netif.tx", sizeof(union netif_tx_sring_entry) },
    { "golden slot netif.rx", sizeof(union netif_rx_sring_entry) },
    { "golden slot netif.ctrl", sizeof(union xen_netif_ctrl_sring_entry) },
    AT(xencons_interface, in),
    AT(xencons_interface, out),
    AT(xencons_interface, in_cons),
    AT(xencons_interface, in_prod),
    AT(xencons_interface, out_cons),
    AT(xencons_interface, out_prod),

    SIZE(xenkbd_mtouch),
    AT(xenkbd_mtouch, type),
    AT(xenkbd_mtouch, event_type),
    AT(xenkbd_mtouch, contact_id),
    AT(xenkbd_mtouch, reserved),
    AT(xenkbd_mtouch, u),
    SIZE(xenkbd_motion),
    AT(xenkbd_motion, type),
    AT(xenkbd_motion, rel_x),
    AT(xenkbd_motion, rel_y),
    AT(xenkbd_motion, rel_z),
    UNION(xenkbd_mtouch_u, xenkbd_mtouch, u),
    { "golden sizeof xenkbd_in_event", sizeof(union xenkbd_in_event) },
    { "golden alignof xenkbd_in_event", __alignof__(union xenkbd_in_event) },
    SIZE(fsif_read_request),
    AT(fsif_read_request, fd),
    AT(fsif_read_request, pad),
    AT(fsif_read_request, len),
    AT(fsif_read_request, offset),
    AT(fsif_read_request, grefs),
    SIZE(fsif_truncate_request),
    AT(fsif_truncate_request, fd),
    AT(fsif_truncate_request, pad),
    AT(fsif_truncate_request, length),
    SIZE(fsif_create_request),
    AT(fsif_create_request, directory),
    AT(fsif_create_request, pad),
    AT(fsif_create_request, pad2),
    AT(fsif_create_request, mode),
    AT(fsif_create_request, gref),
    SIZE(fsif_stat_response),
    AT(fsif_stat_response, stat_mode),
    AT(fsif_stat_response, stat_uid),
    AT(fsif_stat_response, stat_gid),
    AT(fsif_stat_response, stat_ret),
    AT(fsif_stat_response, stat_size),
    AT(fsif_stat_response, stat_atime),
    AT(fsif_stat_response, stat_mtime),
    AT(fsif_stat_response, stat_ctime),
    SIZE(fsif_request),
    AT(fsif_request, type),
    AT(fsif_request, pad),
    AT(fsif_request, id),
    AT(fsif_request, pad2),
    AT(fsif_request, u),
    SIZE(fsif_response),
    AT(fsif_response, id),
    AT(fsif_response, pad1),
    AT(fsif_response, pad2),
    AT(fsif_response, u),
    UNION(fsif_request_u, fsif_request, u),
    UNION(fsif_response_u, fsif_response, u),

    VALUE(BLKIF_OP_READ), VALUE(BLKIF_OP_WRITE), VALUE(BLKIF_OP_WRITE_BARRIER),
    VALUE(BLKIF_OP_FLUSH_DISKCACHE), VALUE(BLKIF_OP_RESERVED_1), VALUE(BLKIF_OP_DISCARD), VALUE(BLKIF_OP_INDIRECT),
    VALUE(BLKIF_RSP_OKAY), VALUE(BLKIF_RSP_ERROR), VALUE(BLKIF_RSP_EOPNOTSUPP),
    VALUE(VDISK_CDROM), VALUE(VDISK_REMOVABLE), VALUE(VDISK_READONLY),
    VALUE(BLKIF_DISCARD_SECURE), VALUE(BLKIF_MAX_SEGMENTS_PER_REQUEST), VALUE(BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST),

    VALUE(XEN_NETIF_NR_SLOTS_MIN), VALUE(XEN_NETIF_MAX_TX_SIZE),
    VALUE(NETTXF_csum_blank), VALUE(NETTXF_data_validated), VALUE(NETTXF_more_data),
    VALUE(NETTXF_extra_info),
    VALUE(NETRXF_data_validated), VALUE(NETRXF_csum_blank), VALUE(NETRXF_more_data),
    VALUE(NETRXF_extra_info), VALUE(NETRXF_gso_prefix),
    VALUE(NETIF_RSP_DROPPED), VALUE(NETIF_RSP_ERROR), VALUE(NETIF_RSP_OKAY), VALUE(NETIF_RSP_NULL),
    VALUE(XEN_NETIF_EXTRA_TYPE_NONE), VALUE(XEN_NETIF_EXTRA_TYPE_GSO),
    VALUE(XEN_NETIF_EXTRA_TYPE_MCAST_ADD), VALUE(XEN_NETIF_EXTRA_TYPE_MCAST_DEL),
    VALUE(XEN_NETIF_EXTRA_TYPE_HASH), VALUE(XEN_NETIF_EXTRA_FLAG_MORE),
    VALUE(XEN_NETIF_GSO_TYPE_NONE), VALUE(XEN_NETIF_GSO_TYPE_TCPV4),
    VALUE(XEN_NETIF_GSO_TYPE_TCPV6),
    VALUE(XEN_NETIF_CTRL_HASH_TYPE_IPV4), VALUE(XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP),
    VALUE(XEN_NETIF_CTRL_HASH_TYPE_IPV6), VALUE(XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP),
    VALUE(XEN_NETIF_CTRL_HASH_ALGORITHM_NONE), VALUE(XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ),
    VALUE(XEN_NETIF_CTRL_TYPE_INVALID), VALUE(XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS),
    VALUE(XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS), VALUE(XEN_NETIF_CTRL_TYPE_SET_HASH_KEY),
    VALUE(XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE),
    VALUE(XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE), VALUE(XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING),
    VALUE(XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM), VALUE(XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE),
    VALUE(XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING), VALUE(XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING),
    VALUE(XEN_NETIF_CTRL_STATUS_SUCCESS), VALUE(XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED),
    VALUE(XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER), VALUE(XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW),
    VALUE(XEN_NETIF_CTRLF_GREF_readonly),

    VALUE(GNTST_okay), VALUE(GNTST_general_error), VALUE(GNTST_bad_domain), VALUE(GNTST_bad_gntref),
    VALUE(GNTST_bad_handle), VALUE(GNTST_bad_virt_addr), VALUE(GNTST_bad_dev_addr), VALUE(GNTST_no_device_space),
    VALUE(GNTST_permission_denied), VALUE(GNTST_bad_page), VALUE(GNTST_bad_copy_arg), VALUE(GNTST_address_too_big),
    VALUE(GNTST_eagain), VALUE(GNTST_no_space),
    VALUE(GTF_invalid), VALUE(GTF_permit_access), VALUE(GTF_accept_transfer), VALUE(GTF_transitive),
    VALUE(GTF_type_mask), VALUE(GTF_readonly), VALUE(GTF_reading), VALUE(GTF_writing),
    VALUE(GNTTAB_NR_RESERVED_ENTRIES), VALUE(GNTTAB_RESERVED_CONSOLE), VALUE(GNTTAB_RESERVED_XENSTORE),

    VALUE(XenbusStateUnknown), VALUE(XenbusStateInitialising), VALUE(XenbusStateInitWait),
    VALUE(XenbusStateInitialised), VALUE(XenbusStateConnected), VALUE(XenbusStateClosing),
    VALUE(XenbusStateClosed), VALUE(XenbusStateReconfiguring), VALUE(XenbusStateReconfigured),

    VALUE(VIRQ_TIMER), VALUE(VIRQ_DEBUG), VALUE(VIRQ_CONSOLE), VALUE(VIRQ_DOM_EXC), VALUE(VIRQ_TBUF),
    VALUE(VIRQ_DEBUGGER), VALUE(VIRQ_XENOPROF), VALUE(VIRQ_CON_RING), VALUE(VIRQ_PCPU_STATE),
    VALUE(VIRQ_MEM_EVENT), VALUE(VIRQ_ARGO), VALUE(VIRQ_ENOMEM), VALUE(VIRQ_XENPMU),
    VALUE(VIRQ_ARCH_0), VALUE(VIRQ_ARCH_1), VALUE(VIRQ_ARCH_2), VALUE(VIRQ_ARCH_3),
    VALUE(VIRQ_ARCH_4), VALUE(VIRQ_ARCH_5), VALUE(VIRQ_ARCH_6), VALUE(VIRQ_ARCH_7), VALUE(NR_VIRQS),
    VALUE(DOMID_FIRST_RESERVED), VALUE(DOMID_SELF), VALUE(DOMID_INVALID), VALUE(EVTCHN_FIFO_NR_CHANNELS),
    VALUE(XENSTORE_PAYLOAD_MAX), VALUE(XENSTORE_ABS_PATH_MAX), VALUE(XENSTORE_REL_PATH_MAX),
    VALUE(XS_CONTROL), VALUE(XS_DIRECTORY), VALUE(XS_READ), VALUE(XS_GET_PERMS), VALUE(XS_WATCH), VALUE(XS_UNWATCH),
    VALUE(XS_TRANSACTION_START), VALUE(XS_TRANSACTION_END), VALUE(XS_INTRODUCE), VALUE(XS_RELEASE), VALUE(XS_GET_DOMAIN_PATH),
    VALUE(XS_WRITE), VALUE(XS_MKDIR), VALUE(XS_RM), VALUE(XS_SET_PERMS), VALUE(XS_WATCH_EVENT), VALUE(XS_ERROR),
    VALUE(XS_IS_DOMAIN_INTRODUCED), VALUE(XS_RESUME), VALUE(XS_SET_TARGET), VALUE(XS_RESET_WATCHES), VALUE(XS_DIRECTORY_PART),
    VALUE(XENSTORE_RING_SIZE), VALUE(XENSTORE_SERVER_FEATURE_RECONNECTION), VALUE(XENSTORE_SERVER_FEATURE_ERROR),
    VALUE(XENSTORE_CONNECTED), VALUE(XENSTORE_RECONNECT), VALUE(XENSTORE_ERROR_NONE), VALUE(XENSTORE_ERROR_COMM),
    VALUE(XENSTORE_ERROR_RINGIDX), VALUE(XENSTORE_ERROR_PROTO),

    { "golden protocol x86_64 " XEN_IO_PROTO_ABI_X86_64, 0 },
    { "golden protocol x86_32 " XEN_IO_PROTO_ABI_X86_32, 0 },
    { "golden protocol arm " XEN_IO_PROTO_ABI_ARM, 0 },
};
