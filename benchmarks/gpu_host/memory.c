/* Memory: the host's own, so that copies from and to it are what they are. */
#include <pthread.h>
#include <sys/mman.h>

#include "host.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Range* ranges;
static size_t used;

static void* add_range(void* memory, size_t size, int on_host) {
  Range* range = malloc(sizeof *range);
  pthread_mutex_lock(&lock);
  *range = (Range){(uintptr_t)memory, size, on_host, ranges};
  ranges = range;
  if (!on_host) used += size;
  pthread_mutex_unlock(&lock);
  return memory;
}
static void* take(size_t size, int on_host) {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* memory = mmap(NULL, size ? size : 1, PROT_READ | PROT_WRITE, flags, -1, 0);
  return memory == MAP_FAILED ? NULL : add_range(memory, size, on_host);
}
static void give_back(void* memory) {
  pthread_mutex_lock(&lock);
  for (Range** at = &ranges; *at; at = &(*at)->next) {
    Range* range = *at;
    if (range->begin != (uintptr_t)memory) continue;
    *at = range->next;
    if (!range->on_host) used -= range->size;
    munmap(memory, range->size ? range->size : 1);
    free(range);
    break;
  }
  pthread_mutex_unlock(&lock);
}
Range* range_of(const void* memory) {
  uintptr_t at = (uintptr_t)memory;
  pthread_mutex_lock(&lock);
  Range* range = ranges;
  while (range && !(range->begin <= at && at < range->begin + range->size)) range = range->next;
  pthread_mutex_unlock(&lock);
  return range;
}

cudaError_t cudaMalloc(void** memory, size_t size) {
  REFUSE_IN_CAPTURE("cudaMalloc");
  FAIL_IF_SCRIPTED("cudaMalloc");
  if (used + size > MEMORY - RESERVED) return last_error = cudaErrorMemoryAllocation;
  *memory = take(size, 0);
  return *memory ? cudaSuccess : (last_error = cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void* memory) {
  if (!memory) return cudaSuccess;
  REFUSE_IN_CAPTURE("cudaFree");
  wait_until(busy_until_s());
  give_back(memory);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** memory, size_t size, unsigned flags) {
  (void)flags;
  REFUSE_IN_CAPTURE("cudaHostAlloc");
  *memory = take(size, 1);
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  REFUSE_IN_CAPTURE("cudaFreeHost");
  give_back(memory);
  return cudaSuccess;
}
cudaError_t cudaHostRegister(void* memory, size_t size, unsigned flags) {
  (void)flags;
  add_range(memory, size, 1);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  *total = MEMORY;
  *free_bytes = MEMORY - used - RESERVED;
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes* attributes, const void* memory) {
  Range* range = range_of(memory);
  memset(attributes, 0, sizeof *attributes);
  attributes->type = range ? (range->on_host ? cudaMemoryTypeHost : cudaMemoryTypeDevice)
                           : cudaMemoryTypeUnregistered;
  attributes->devicePointer = range ? (void*)memory : NULL;
  attributes->hostPointer = (void*)memory;
  return cudaSuccess;
}
/* Large copies on the device are not made: nothing there is anybody's result. */
static const size_t LARGE = 1 << 20;

static cudaError_t copy(void* to, const void* from, size_t size, cudaStream_t s, int blocking) {
  Range *target = range_of(to), *source = range_of(from);
  int onto = target && !target->on_host, off = source && !source->on_host;
  int pageable = !(onto && off) && !(onto ? source : target);
  double cost_s = onto && off ? 2.0 * (double)size / BYTES_S : (double)size / HOST_BYTES_S;
  Stream* stream = stream_of(s);
  if (stream->capture && pageable) {
    stream->capture->invalid = 1;
    return refuse(cudaErrorStreamCaptureUnsupported, "a copy of pageable memory");
  }
  if (blocking) REFUSE_IN_CAPTURE("cudaMemcpy");
  submit(s, LAUNCH_S + cost_s, "copy");
  if (stream->capture) return cudaSuccess;
  if (blocking || pageable) wait_until(busy_until_s());
  if (!(onto && off) || size <= LARGE) memmove(to, from, size);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t size, enum cudaMemcpyKind kind) {
  (void)kind;
  return copy(to, from, size, NULL, 1);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, enum cudaMemcpyKind kind,
                            cudaStream_t s) {
  (void)kind;
  return copy(to, from, size, s, 0);
}
cudaError_t cudaMemsetAsync(void* memory, int value, size_t size, cudaStream_t s) {
  if (size <= LARGE && !stream_of(s)->capture) memset(memory, value, size);
  return submit(s, LAUNCH_S, "memset");
}
cudaError_t cudaMemset(void* memory, int value, size_t size) {
  return cudaMemsetAsync(memory, value, size, NULL);
}
cudaError_t cudaGetSymbolAddress(void** memory, const void* symbol) {
  static void* any;
  (void)symbol;
  if (!any) any = take(LARGE, 0);
  *memory = any;
  return cudaSuccess;
}
