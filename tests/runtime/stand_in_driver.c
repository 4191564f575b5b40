/* A CUDA driver without a device, for NVIDIA's real bindings of the driver API: it says what it was called with, copies
   between blocks of the host's memory, and fails the call that STAND_IN_FAIL=name=status names. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long address;

static int told(const char *name, unsigned long long what) {
    const char *fail = getenv("STAND_IN_FAIL");
    size_t length = strlen(name);
    printf("%s %llu\n", name, what);
    fflush(stdout);
    return fail && !strncmp(fail, name, length) && fail[length] == '=' ? atoi(fail + length + 1) : 0;
}

int cuInit(unsigned flags) { return told("cuInit", flags); }
int cuDriverGetVersion(int *version) { *version = atoi(getenv("STAND_IN_VERSION")); return told("cuDriverGetVersion", 0); }
int cuGetErrorString(int error, const char **text) { *text = error == 2 ? "out of memory" : "something else"; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return told("cuDeviceGet", ordinal); }
int cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "Stand-in %d", device); return told("cuDeviceGetName", size); }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : attribute == 18 ? 1 : -1;
    return told("cuDeviceGetAttribute", attribute + device);
}
int cuDeviceTotalMem_v2(size_t *size, int device) { *size = (size_t)5 << 30; return told("cuDeviceTotalMem", device); }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)1111; return told("cuDevicePrimaryCtxRetain", device); }
int cuDevicePrimaryCtxRelease_v2(int device) { return told("cuDevicePrimaryCtxRelease", device); }
int cuCtxSetCurrent(void *context) { return told("cuCtxSetCurrent", (address)context); }
int cuMemGetInfo_v2(size_t *available, size_t *total) { *available = 3; *total = (size_t)5 << 30; return told("cuMemGetInfo", 0); }
int cuMemAlloc_v2(address *block, size_t size) { *block = (address)malloc(size); return told("cuMemAlloc", size); }
int cuMemFree_v2(address block) { free((void *)block); return told("cuMemFree", block != 0); }
int cuMemHostAlloc(void **block, size_t size, unsigned flags) { *block = malloc(size); return told("cuMemHostAlloc", flags); }
int cuMemFreeHost(void *block) { free(block); return told("cuMemFreeHost", block != NULL); }
int cuMemcpyHtoDAsync_v2(address to, const void *from, size_t size, void *stream) {
    memcpy((void *)to, from, size);
    return told("cuMemcpyHtoDAsync", (address)stream);
}
int cuMemcpyDtoHAsync_v2(void *to, address from, size_t size, void *stream) {
    memcpy(to, (void *)from, size);
    return told("cuMemcpyDtoHAsync", (address)stream);
}
int cuStreamCreate(void **stream, unsigned flags) { *stream = (void *)2222; return told("cuStreamCreate", flags); }
int cuStreamDestroy_v2(void *stream) { return told("cuStreamDestroy", (address)stream); }
int cuStreamSynchronize(void *stream) { return told("cuStreamSynchronize", (address)stream); }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return told("cuStreamWaitEvent", (address)stream + (address)event + flags); }
int cuEventCreate(void **event, unsigned flags) { *event = (void *)3333; return told("cuEventCreate", flags); }
int cuEventDestroy_v2(void *event) { return told("cuEventDestroy", (address)event); }
int cuEventRecord(void *event, void *stream) { return told("cuEventRecord", (address)event - (address)stream); }
int cuEventSynchronize(void *event) { return told("cuEventSynchronize", (address)event); }
int cuEventElapsedTime(float *ms, void *start, void *end) { *ms = 1.5; return told("cuEventElapsedTime", start == end); }
int cuEventElapsedTime_v2(float *ms, void *start, void *end) { return cuEventElapsedTime(ms, start, end); }

/* The bindings ask for each function by its plain name. */
int cuGetProcAddress_v2(const char *name, void **function, int version, address flags, int *status) {
    char versioned[128];
    void *self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    (void)version, (void)flags;
    snprintf(versioned, sizeof versioned, "%s_v2", name);
    *function = dlsym(self, versioned);
    if (!*function) *function = dlsym(self, name);
    if (status) *status = *function ? 0 : 1;
    return 0;
}
