/* A PJRT client that can only be traced with.
 *
 * TorchTPU lowers a module to StableHLO only once it has a PJRT client, although lowering executes
 * nothing. This library is such a client with one device and no arithmetic: it names itself, keeps
 * the type and dimensions of the buffers that it is handed (TorchTPU stores the state of its random
 * generator in one), and answers everything else with an error.
 *
 * Layout of the C interface (openxla/xla, xla/pjrt/c/pjrt_c_api.h, version 0.116): a header of 40
 * bytes, then one function pointer a slot. Every function takes one structure: its size, a pointer
 * for extensions, the handle, and then the results. Numbers below are slots of the table and byte
 * offsets into those structures.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 140, MAJOR = 0, MINOR = 116, HANDLE = 16, FIRST = 24, SECOND = 32, UNIMPLEMENTED = 12 };

typedef void *(*function)(char *);
typedef void (*deleter)(void *);
typedef void (*callback)(void *error, void *user);
typedef struct {
    size_t size;
    void *extensions;
    struct { size_t size; void *extensions; int major, minor; } version;
    function slots[SLOTS];
} interface;
typedef struct { int type; size_t rank; long long sizes[]; } buffer;

static interface api;
static int the_client, the_device, the_memory, the_event;
static void *device = &the_device, *memory = &the_memory;
static const char message[] = "this client only traces: it cannot execute";

#define SET(args, offset, type, value) (*(type *)((args) + (offset)) = (value))
#define GET(args, offset, type) (*(type *)((args) + (offset)))

static void *text(char *args, const char *value) {
    SET(args, FIRST, const char *, value);
    SET(args, SECOND, size_t, strlen(value));
    return NULL;
}

static void *list(char *args, void *items, size_t count) {
    SET(args, FIRST, void *, items);
    SET(args, SECOND, size_t, count);
    return NULL;
}

static void *nothing(char *args) { (void)args; return NULL; }
static void *refuse(char *args) { (void)args; return (void *)message; }
static void *error_message(char *args) { return text(args, message); }
static void *error_code(char *args) { SET(args, FIRST, int, UNIMPLEMENTED); return NULL; }
static void *no_plugin_attributes(char *args) {
    SET(args, HANDLE, void *, NULL);
    SET(args, FIRST, size_t, 0);
    return NULL;
}
static void *zero(char *args) { SET(args, FIRST, int, 0); return NULL; }
static void *yes(char *args) { SET(args, FIRST, char, 1); return NULL; }
static void *no(char *args) { SET(args, FIRST, char, 0); return NULL; }
static void *platform(char *args) { return text(args, "tpu"); }
static void *label(char *args) { return text(args, "trace only"); }
static void *memory_kind(char *args) { return text(args, "device"); }
static void *empty(char *args) { return list(args, NULL, 0); }
static void *devices(char *args) { return list(args, &device, 1); }
static void *memories(char *args) { return list(args, &memory, 1); }
static void *its_device(char *args) { SET(args, FIRST, void *, device); return NULL; }
static void *its_memory(char *args) { SET(args, FIRST, void *, memory); return NULL; }
static void *its_event(char *args) { SET(args, FIRST, void *, &the_event); return NULL; }
static void *device_of_id(char *args) { SET(args, SECOND, void *, device); return NULL; }
static void *no_description_attributes(char *args) {
    SET(args, FIRST, size_t, 0);
    SET(args, SECOND, void *, NULL);
    return NULL;
}
static void free_no_attributes(void *attributes) { (void)attributes; }
static void *no_device_attributes(char *args) {
    empty(args);
    SET(args, 40, void *, NULL);
    SET(args, 48, deleter, free_no_attributes);
    return NULL;
}
static void *create_client(char *args) { SET(args, 64, void *, &the_client); return NULL; }
static void *when_ready(char *args) {
    GET(args, FIRST, callback)(NULL, GET(args, SECOND, void *));
    return NULL;
}
static void *from_host(char *args) {
    size_t rank = GET(args, 48, size_t);
    buffer *made = malloc(sizeof *made + rank * sizeof made->sizes[0]);
    if (made == NULL) return (void *)message;
    made->type = GET(args, 32, int);
    made->rank = rank;
    if (rank) memcpy(made->sizes, GET(args, 40, void *), rank * sizeof made->sizes[0]);
    SET(args, 104, void *, &the_event);
    SET(args, 112, void *, made);
    return NULL;
}
static void *buffer_type(char *args) {
    SET(args, FIRST, int, GET(args, HANDLE, buffer *)->type);
    return NULL;
}
static void *buffer_sizes(char *args) {
    buffer *of = GET(args, HANDLE, buffer *);
    return list(args, of->sizes, of->rank);
}
static void *free_buffer(char *args) { free(GET(args, HANDLE, void *)); return NULL; }

static const struct { int slot; function call; } implemented[] = {
    {0, nothing},            /* Error_Destroy */
    {1, error_message},      /* Error_Message */
    {2, error_code},         /* Error_GetCode */
    {3, nothing},            /* Plugin_Initialize */
    {4, no_plugin_attributes},
    {5, nothing},            /* Event_Destroy */
    {6, yes},                /* Event_IsReady */
    {7, nothing},            /* Event_Error */
    {8, nothing},            /* Event_Await */
    {9, when_ready},         /* Event_OnReady */
    {10, create_client},
    {11, nothing},           /* Client_Destroy */
    {12, platform},          /* Client_PlatformName */
    {13, zero},              /* Client_ProcessIndex */
    {14, label},             /* Client_PlatformVersion */
    {15, devices},           /* Client_Devices */
    {16, devices},           /* Client_AddressableDevices */
    {17, device_of_id},      /* Client_LookupDevice */
    {18, device_of_id},      /* Client_LookupAddressableDevice */
    {19, memories},          /* Client_AddressableMemories */
    {22, from_host},         /* Client_BufferFromHostBuffer */
    {23, zero},              /* DeviceDescription_Id */
    {24, zero},              /* DeviceDescription_ProcessIndex */
    {25, no_description_attributes},
    {26, label},             /* DeviceDescription_Kind */
    {27, label},             /* DeviceDescription_DebugString */
    {28, label},             /* DeviceDescription_ToString */
    {29, its_device},        /* Device_GetDescription: the device describes itself */
    {30, yes},               /* Device_IsAddressable */
    {31, zero},              /* Device_LocalHardwareId */
    {32, memories},          /* Device_AddressableMemories */
    {33, its_memory},        /* Device_DefaultMemory */
    {35, zero},              /* Memory_Id */
    {36, memory_kind},       /* Memory_Kind */
    {37, label},             /* Memory_DebugString */
    {38, label},             /* Memory_ToString */
    {39, devices},           /* Memory_AddressableByDevices */
    {58, free_buffer},       /* Buffer_Destroy */
    {59, buffer_type},       /* Buffer_ElementType */
    {60, buffer_sizes},      /* Buffer_Dimensions */
    {61, buffer_sizes},      /* Buffer_UnpaddedDimensions */
    {62, empty},             /* Buffer_DynamicDimensionIndices */
    {65, its_device},        /* Buffer_Device */
    {66, its_memory},        /* Buffer_Memory */
    {67, nothing},           /* Buffer_Delete */
    {68, no},                /* Buffer_IsDeleted */
    {72, its_event},         /* Buffer_ReadyEvent */
    {128, no_device_attributes},
    {132, nothing},          /* Error_ForEachPayload */
};

const void *GetPjrtApi(void) {
    api.size = sizeof api;
    api.version.size = sizeof api.version;
    api.version.major = MAJOR;
    api.version.minor = MINOR;
    for (int i = 0; i < SLOTS; i++) api.slots[i] = refuse;
    for (size_t i = 0; i < sizeof implemented / sizeof implemented[0]; i++)
        api.slots[implemented[i].slot] = implemented[i].call;
    return &api;
}
