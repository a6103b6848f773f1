/* The host's side of CUDA with no GPU: runtime, driver and cuBLAS calls that launch nothing.

   benchmarks/gpu_host.py builds this and puts it before torch's own libraries. Memory is there,
   kernels are not: what a kernel should have written stays as it was. What is kept is order and
   time (a queue that the host runs ahead of, by rough costs) and the rules of stream capture: a
   call that CUDA refuses inside a capture is refused here, and noted in the log, as are calls that
   it takes but that would not become part of the graph. */
#define _GNU_SOURCE
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An H200: its memory, and the rates that costs go by (measured 2026-10-28: 4.3 TB/s, 788
   TFLOP/s). */
#define PROCESSORS 132
#define MEGAHERTZ 1980
#define MEMORY ((size_t)143771 << 20)
#define RESERVED ((size_t)600 << 20)
#define BYTES_S 4.3e12
#define FLOP_S 750e12
#define NARROW_FLOP_S 1400e12
#define WIDE_FLOP_S 52e12
#define LAUNCH_S 2e-6
#define HOST_BYTES_S 50e9

typedef struct {
  int nodes, active, invalid;
  double cost_s;
  unsigned long long id;
} Capture;
typedef struct {
  Capture* capture;
  int priority;
} Stream;
typedef struct Range {
  uintptr_t begin;
  size_t size;
  int on_host;
  struct Range* next;
} Range;

FILE* log_file(void);
#define NOTE(...) fprintf(log_file(), __VA_ARGS__)

double now_s(void);
double busy_until_s(void);
void wait_until(double moment_s);

/* The capture that all threads of this process must mind; NULL where there is none. */
extern Capture* under_way;
extern Stream legacy;
extern __thread int thread_mode;
extern __thread cudaError_t last_error;
Stream* stream_of(cudaStream_t s);
cudaError_t refuse(cudaError_t error, const char* call);
/* A call that may not be made while a capture is under way, as the documents of CUDA list them. */
cudaError_t unsafe(const char* call);
#define REFUSE_IN_CAPTURE(call)        \
  do {                                 \
    cudaError_t error_ = unsafe(call); \
    if (error_) return error_;         \
  } while (0)
/* The error that $GPU_HOST_ERROR, "call=code", has this call return; cudaSuccess for no such. */
cudaError_t scripted(const char *call);
#define FAIL_IF_SCRIPTED(call)           \
  do {                                   \
    cudaError_t error_ = scripted(call); \
    if (error_) return error_;           \
  } while (0)
cudaError_t submit(cudaStream_t s, double cost_s, const char* what);
Range* range_of(const void* memory);
int attribute(int which);
