/* A stand-in for NVIDIA's management library (libnvidia-ml.so.1).
 *
 * The whole world is a text file, named by LINESHAFT_FAKE_NVML and read again on every call, so
 * that a test can change the machine under a running process. One item a line, fields between tabs:
 *
 *   machine  driver=550.54.15  generation=1  error=9  hang=0|1
 *   gpu      uuid=GPU-..  name=..  memory=<bytes>  reserved=<bytes>  used=<bytes>  util=<0-100>
 *            temp=<degrees>  power=<milliwatts>                    (negative: no such sensor)
 *            error=<code>  handle_error=<code>  ecc=<count>  xid=<code>  xid_number=<n>
 *            numa=<node>  bus=00000000:01:00.0  mig=0|1  memory_v2=0|1
 *   mig      parent=GPU-..  uuid=MIG-..  and the fields of a gpu
 *   process  on=<uuid>  pid=<pid>  used=<bytes>  kind=compute|graphics      (no used: not available)
 *
 * `machine hang` lets no call return as long as it is there. `machine error` fails initialisation
 * and every call (9: driver not loaded). A changed `generation` is a reloaded driver: calls answer
 * 999 (unknown) until the library is initialised again. `error` fails every call on one GPU,
 * `handle_error` fails handing out its handle. A new `xid_number` is a new Xid event, delivered
 * once to each event set that had registered before it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define DEVICES_MAX 128
#define PROCESSES_MAX 256
#define SETS_MAX 64
#define NOT_AVAILABLE 0xFFFFFFFFFFFFFFFFULL
#define XID_EVENT 8ULL

typedef unsigned long long u64;

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7,
    DRIVER_NOT_LOADED = 9, TIMEOUT = 10, LOST = 15, UNKNOWN = 999
};

typedef struct Handle { char uuid[96]; int epoch; struct Handle *next; } Handle;
typedef struct {
    char uuid[96], parent[96], name[96], bus[32];
    u64 memory, reserved, used, ecc;
    int util, temp, power, error, handle_error, xid, xid_number, numa, mig, memory_v2, is_mig;
} Device;
typedef struct { char on[96]; unsigned pid; u64 used; int graphics; } Process;
typedef struct {
    char driver[80];
    int generation, error, hang, device_count, process_count;
    Device devices[DEVICES_MAX];
    Process processes[PROCESSES_MAX];
} World;
typedef struct { Handle *device; u64 types; int seen; } Registration;
typedef struct { int used, count; Registration registrations[DEVICES_MAX]; } EventSet;

typedef struct { u64 total, free, used; } Memory;
typedef struct { unsigned version; u64 total, reserved, free, used; } MemoryV2;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned pid; u64 used; unsigned gpu_instance, compute_instance; } ProcessInfo;
typedef struct { Handle *device; u64 type, data; unsigned gpu_instance, compute_instance; } EventData;
typedef struct {
    char legacy[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
} PciInfo;

static Handle *handles; /* Never freed: a caller's stale handle must stay recognisable. */
static int initialised, generation_at_init, epoch;
static EventSet sets[SETS_MAX];
static __thread World world;

static void set_text(char *into, size_t size, const char *value) { snprintf(into, size, "%s", value); }

static void set_device(Device *d, const char *key, const char *value) {
    if (!strcmp(key, "uuid")) set_text(d->uuid, sizeof d->uuid, value);
    else if (!strcmp(key, "parent")) set_text(d->parent, sizeof d->parent, value);
    else if (!strcmp(key, "name")) set_text(d->name, sizeof d->name, value);
    else if (!strcmp(key, "bus")) set_text(d->bus, sizeof d->bus, value);
    else if (!strcmp(key, "memory")) d->memory = strtoull(value, NULL, 10);
    else if (!strcmp(key, "reserved")) d->reserved = strtoull(value, NULL, 10);
    else if (!strcmp(key, "used")) d->used = strtoull(value, NULL, 10);
    else if (!strcmp(key, "ecc")) d->ecc = strtoull(value, NULL, 10);
    else if (!strcmp(key, "util")) d->util = atoi(value);
    else if (!strcmp(key, "temp")) d->temp = atoi(value);
    else if (!strcmp(key, "power")) d->power = atoi(value);
    else if (!strcmp(key, "error")) d->error = atoi(value);
    else if (!strcmp(key, "handle_error")) d->handle_error = atoi(value);
    else if (!strcmp(key, "xid")) d->xid = atoi(value);
    else if (!strcmp(key, "xid_number")) d->xid_number = atoi(value);
    else if (!strcmp(key, "numa")) d->numa = atoi(value);
    else if (!strcmp(key, "mig")) d->mig = atoi(value);
    else if (!strcmp(key, "memory_v2")) d->memory_v2 = atoi(value);
}

static void set_process(Process *p, const char *key, const char *value) {
    if (!strcmp(key, "on")) set_text(p->on, sizeof p->on, value);
    else if (!strcmp(key, "pid")) p->pid = (unsigned)strtoul(value, NULL, 10);
    else if (!strcmp(key, "used")) p->used = strtoull(value, NULL, 10);
    else if (!strcmp(key, "kind")) p->graphics = !strcmp(value, "graphics");
}

static void set_machine(const char *key, const char *value) {
    if (!strcmp(key, "driver")) set_text(world.driver, sizeof world.driver, value);
    else if (!strcmp(key, "generation")) world.generation = atoi(value);
    else if (!strcmp(key, "error")) world.error = atoi(value);
    else if (!strcmp(key, "hang")) world.hang = atoi(value);
}

static void read_line(char *line) {
    char *rest = NULL, *kind = strtok_r(line, "\t\r\n", &rest), *field;
    Device *device = NULL;
    Process *process = NULL;
    if (!kind || kind[0] == '#') return;
    if ((!strcmp(kind, "gpu") || !strcmp(kind, "mig")) && world.device_count < DEVICES_MAX) {
        device = &world.devices[world.device_count++];
        device->is_mig = !strcmp(kind, "mig");
        device->memory_v2 = 1;
        device->numa = -1;
    } else if (!strcmp(kind, "process") && world.process_count < PROCESSES_MAX) {
        process = &world.processes[world.process_count++];
        process->used = NOT_AVAILABLE;
    }
    while ((field = strtok_r(NULL, "\t\r\n", &rest))) {
        char *value = strchr(field, '=');
        if (!value) continue;
        *value++ = 0;
        if (device) set_device(device, field, value);
        else if (process) set_process(process, field, value);
        else set_machine(field, value);
    }
}

static void look_once(void) {
    const char *path = getenv("LINESHAFT_FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[1024];
    memset(&world, 0, sizeof world);
    set_text(world.driver, sizeof world.driver, "550.54.15");
    if (!file) { world.error = DRIVER_NOT_LOADED; return; }
    while (fgets(line, sizeof line, file)) read_line(line);
    fclose(file);
}

static void look(void) {
    look_once();
    while (world.hang) {
        usleep(10000);
        look_once();
    }
}

/* Reads the world; what every call but initialisation answers first. */
static int ready(void) {
    look();
    if (!initialised) return UNINITIALIZED;
    if (world.error) return world.error;
    return world.generation == generation_at_init ? SUCCESS : UNKNOWN;
}

static Handle *handle_of(const char *uuid) {
    Handle *handle = handles;
    while (handle && (handle->epoch != epoch || strcmp(handle->uuid, uuid))) handle = handle->next;
    if (handle || !(handle = calloc(1, sizeof *handle))) return handle;
    set_text(handle->uuid, sizeof handle->uuid, uuid);
    handle->epoch = epoch;
    handle->next = handles;
    return handles = handle;
}

static Device *named(const char *uuid) {
    for (int i = 0; i < world.device_count; i++)
        if (!strcmp(world.devices[i].uuid, uuid)) return &world.devices[i];
    return NULL;
}

static int find(Handle *handle, Device **device) {
    int code = ready();
    if (code) return code;
    if (!handle || handle->epoch != epoch) return INVALID;
    *device = named(handle->uuid);
    if (!*device) return LOST;
    if ((*device)->is_mig) {
        Device *parent = named((*device)->parent);
        if (!parent || !parent->mig) return LOST;
        if (parent->error) return parent->error;
    }
    return (*device)->error;
}

static int give_handle(Device *device, Handle **handle) {
    if (device->handle_error) return device->handle_error;
    *handle = handle_of(device->uuid);
    return *handle ? SUCCESS : UNKNOWN;
}

static int give_text(char *into, unsigned size, const char *value) {
    if (strlen(value) + 1 > size) return TOO_SMALL;
    set_text(into, size, value);
    return SUCCESS;
}

EXPORT int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    look();
    if (world.error) return world.error;
    if (!initialised++) {
        generation_at_init = world.generation;
        epoch++;
    }
    return SUCCESS;
}
EXPORT int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
EXPORT int nvmlShutdown(void) {
    if (!initialised) return UNINITIALIZED;
    initialised--;
    return SUCCESS;
}

EXPORT const char *nvmlErrorString(int code) {
    switch (code) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case NOT_SUPPORTED: return "Not Supported";
    case NOT_FOUND: return "Not Found";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case TIMEOUT: return "Timeout";
    case LOST: return "GPU is lost";
    default: return "Unknown Error";
    }
}

EXPORT int nvmlSystemGetDriverVersion(char *version, unsigned size) {
    int code = ready();
    return code ? code : give_text(version, size, world.driver);
}

EXPORT int nvmlDeviceGetCount_v2(unsigned *count) {
    int code = ready();
    if (code) return code;
    *count = 0;
    for (int i = 0; i < world.device_count; i++) *count += !world.devices[i].is_mig;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, Handle **handle) {
    int code = ready();
    if (code) return code;
    for (int i = 0; i < world.device_count; i++)
        if (!world.devices[i].is_mig && index-- == 0) return give_handle(&world.devices[i], handle);
    return INVALID;
}

EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, Handle **handle) {
    int code = ready();
    if (code) return code;
    Device *device = named(uuid);
    return device ? give_handle(device, handle) : NOT_FOUND;
}

EXPORT int nvmlDeviceGetIndex(Handle *handle, unsigned *index) {
    Device *device;
    int code = find(handle, &device);
    if (code) return code;
    *index = 0;
    for (Device *d = world.devices; d != device; d++) *index += !d->is_mig;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetUUID(Handle *handle, char *uuid, unsigned size) {
    Device *device;
    int code = find(handle, &device);
    return code ? code : give_text(uuid, size, device->uuid);
}

EXPORT int nvmlDeviceGetName(Handle *handle, char *name, unsigned size) {
    Device *device;
    int code = find(handle, &device);
    return code ? code : give_text(name, size, device->name);
}

EXPORT int nvmlDeviceGetMemoryInfo(Handle *handle, Memory *memory) {
    Device *device;
    int code = find(handle, &device);
    if (code) return code;
    memory->total = device->memory;
    memory->used = device->used + device->reserved;
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetMemoryInfo_v2(Handle *handle, MemoryV2 *memory) {
    Device *device;
    int code = find(handle, &device);
    if (code) return code;
    if (!device->memory_v2) return NOT_SUPPORTED;
    memory->total = device->memory;
    memory->reserved = device->reserved;
    memory->used = device->used;
    memory->free = memory->total - memory->used - memory->reserved;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetUtilizationRates(Handle *handle, Utilization *utilization) {
    Device *device;
    int code = find(handle, &device);
    if (code) return code;
    if (device->is_mig || device->mig) return NOT_SUPPORTED;
    utilization->gpu = (unsigned)device->util;
    utilization->memory = 0;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetTemperature(Handle *handle, int sensor, unsigned *degrees) {
    Device *device;
    int code = find(handle, &device);
    if (code) return code;
    if (sensor != 0) return INVALID;
    if (device->is_mig || device->temp < 0) return NOT_SUPPORTED;
    *degrees = (unsigned)device->temp;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetPowerUsage(Handle *handle, unsigned *milliwatts) {
    Device *device;
    int code = find(handle, &device);
    if (code) return code;
    if (device->is_mig || device->power < 0) return NOT_SUPPORTED;
    *milliwatts = (unsigned)device->power;
    return SUCCESS;
}

static int processes(Handle *handle, int graphics, unsigned *count, ProcessInfo *infos) {
    Device *device;
    int code = find(handle, &device);
    unsigned found = 0, room = *count;
    if (code) return code;
    for (int i = 0; i < world.process_count; i++) {
        Process *p = &world.processes[i];
        if (p->graphics != graphics || strcmp(p->on, device->uuid)) continue;
        if (infos && found < room) infos[found] = (ProcessInfo){p->pid, p->used, ~0u, ~0u};
        found++;
    }
    *count = found;
    return found > room || (found && !infos) ? TOO_SMALL : SUCCESS;
}
EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(Handle *handle, unsigned *count, ProcessInfo *infos) {
    return processes(handle, 0, count, infos);
}
EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v3(Handle *handle, unsigned *count, ProcessInfo *infos) {
    return processes(handle, 1, count, infos);
}

EXPORT int nvmlDeviceGetTotalEccErrors(Handle *handle, int type, int counter, u64 *count) {
    Device *device;
    int code = find(handle, &device);
    if (code) return code;
    if (device->is_mig) return NOT_SUPPORTED;
    *count = type == 1 && counter == 0 ? device->ecc : 0;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetMigMode(Handle *handle, unsigned *current, unsigned *pending) {
    Device *device;
    int code = find(handle, &device);
    if (code) return code;
    if (device->is_mig) return NOT_SUPPORTED;
    *current = *pending = (unsigned)device->mig;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetMaxMigDeviceCount(Handle *handle, unsigned *count) {
    Device *device;
    int code = find(handle, &device);
    if (code) return code;
    *count = device->mig ? 7 : 0;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(Handle *handle, unsigned index, Handle **mig) {
    Device *device;
    int code = find(handle, &device);
    if (code) return code;
    for (int i = 0; i < world.device_count; i++) {
        Device *d = &world.devices[i];
        if (d->is_mig && !strcmp(d->parent, device->uuid) && index-- == 0) return give_handle(d, mig);
    }
    return NOT_FOUND;
}

EXPORT int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Handle *mig, Handle **handle) {
    Device *device, *parent;
    int code = find(mig, &device);
    if (code) return code;
    parent = device->is_mig ? named(device->parent) : NULL;
    return parent ? give_handle(parent, handle) : INVALID;
}

EXPORT int nvmlDeviceIsMigDeviceHandle(Handle *handle, unsigned *is_mig) {
    Device *device;
    int code = find(handle, &device);
    if (!code) *is_mig = (unsigned)device->is_mig;
    return code;
}

EXPORT int nvmlDeviceGetPciInfo_v3(Handle *handle, PciInfo *pci) {
    Device *device;
    int code = find(handle, &device);
    if (code) return code;
    if (device->is_mig) device = named(device->parent);
    memset(pci, 0, sizeof *pci);
    set_text(pci->bus_id, sizeof pci->bus_id, device->bus);
    sscanf(device->bus, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetMemoryAffinity(Handle *handle, unsigned size, unsigned long *nodes, unsigned scope) {
    Device *device;
    int code = find(handle, &device);
    (void)scope;
    if (code) return code;
    if (device->is_mig) device = named(device->parent);
    if (device->numa < 0 || (unsigned)device->numa >= size * 64) return NOT_SUPPORTED;
    memset(nodes, 0, size * sizeof *nodes);
    nodes[device->numa / 64] = 1UL << (device->numa % 64);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetNumaNodeId(Handle *handle, int *node) {
    (void)handle, (void)node;
    return NOT_SUPPORTED; /* Only for GPUs whose memory is a NUMA node of its own. */
}

EXPORT int nvmlDeviceGetSupportedEventTypes(Handle *handle, u64 *types) {
    Device *device;
    int code = find(handle, &device);
    if (!code) *types = device->is_mig ? 0 : XID_EVENT;
    return code;
}

EXPORT int nvmlEventSetCreate(EventSet **set) {
    int code = ready();
    for (int i = 0; !code && i < SETS_MAX; i++) {
        if (sets[i].used) continue;
        sets[i] = (EventSet){.used = 1};
        *set = &sets[i];
        return SUCCESS;
    }
    return code ? code : UNKNOWN;
}

EXPORT int nvmlDeviceRegisterEvents(Handle *handle, u64 types, EventSet *set) {
    Device *device;
    int code = find(handle, &device);
    if (code) return code;
    if (device->is_mig) return NOT_SUPPORTED;
    if (!set || set->count == DEVICES_MAX) return INVALID;
    set->registrations[set->count++] = (Registration){handle, types, device->xid_number};
    return SUCCESS;
}

static int next_event(EventSet *set, EventData *data) {
    int code = ready();
    for (int i = 0; !code && i < set->count; i++) {
        Registration *r = &set->registrations[i];
        Device *device = named(r->device->uuid);
        if (!device || device->xid_number <= r->seen || !(r->types & XID_EVENT)) continue;
        r->seen = device->xid_number;
        *data = (EventData){r->device, XID_EVENT, (u64)device->xid, ~0u, ~0u};
        return SUCCESS;
    }
    return code ? code : TIMEOUT;
}

EXPORT int nvmlEventSetWait_v2(EventSet *set, EventData *data, unsigned timeout_ms) {
    int code = next_event(set, data);
    for (unsigned waited = 0; code == TIMEOUT && waited < timeout_ms; waited++) {
        usleep(1000);
        code = next_event(set, data);
    }
    return code;
}

EXPORT int nvmlEventSetFree(EventSet *set) {
    if (!set) return INVALID;
    set->used = 0;
    return SUCCESS;
}
