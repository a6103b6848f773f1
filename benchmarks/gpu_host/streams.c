/* The queue that a host runs ahead of, streams, events and captures. */
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "host.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

FILE* log_file(void) {
  static FILE* file;
  if (!file) {
    char path[4096] = "/dev/null";
    const char* folder = getenv("GPU_HOST_LOG");
    if (folder) snprintf(path, sizeof path, "%s/%d.log", folder, getpid());
    file = fopen(path, "a");
    setvbuf(file, NULL, _IOLBF, 0);
  }
  return file;
}

/* Time: the device is busy until `busy_s`. */
static double busy_s;

double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
double busy_until_s(void) {
  pthread_mutex_lock(&lock);
  double until = busy_s;
  pthread_mutex_unlock(&lock);
  return until;
}
void wait_until(double moment_s) {
  double left_s = moment_s - now_s();
  if (left_s <= 0) return;
  struct timespec t = {(time_t)left_s, (long)((left_s - (double)(time_t)left_s) * 1e9)};
  nanosleep(&t, NULL);
}

typedef struct {
  double at_s;
  Capture* capture;
  int timed, recorded;
} Event;

Stream legacy;
Capture* under_way;
__thread int thread_mode = cudaStreamCaptureModeGlobal;
__thread cudaError_t last_error;

Stream* stream_of(cudaStream_t s) { return (uintptr_t)s <= 2 ? &legacy : (Stream*)s; }

cudaError_t refuse(cudaError_t error, const char* call) {
  NOTE("refused: %s (%d)\n", call, error);
  last_error = error;
  return error;
}

cudaError_t unsafe(const char* call) {
  if (!under_way || thread_mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  under_way->invalid = 1;
  return refuse(cudaErrorStreamCaptureUnsupported, call);
}
cudaError_t scripted(const char *call) {
  const char *script = getenv("GPU_HOST_ERROR");
  size_t length = strlen(call);
  if (!script || strncmp(script, call, length) || script[length] != '=') return cudaSuccess;
  return last_error = (cudaError_t)atoi(script + length + 1);
}

cudaError_t submit(cudaStream_t s, double cost_s, const char* what) {
  Stream* stream = stream_of(s);
  if (stream->capture) {
    stream->capture->nodes++;
    stream->capture->cost_s += cost_s;
    NOTE("node: %s\n", what);
    return cudaSuccess;
  }
  if (under_way) NOTE("beside the capture: %s\n", what);
  pthread_mutex_lock(&lock);
  double now = now_s();
  busy_s = (busy_s < now ? now : busy_s) + cost_s;
  pthread_mutex_unlock(&lock);
  return cudaSuccess;
}

/* Streams, events and graphs. */
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* s, unsigned flags, int priority) {
  Stream* stream = calloc(1, sizeof *stream);
  (void)flags;
  stream->priority = priority;
  *s = (cudaStream_t)stream;
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* s) { return cudaStreamCreateWithPriority(s, 0, 0); }
cudaError_t cudaStreamGetPriority(cudaStream_t s, int* priority) {
  *priority = stream_of(s)->priority;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
  if (stream_of(s)->capture) {
    stream_of(s)->capture->invalid = 1;
    return refuse(cudaErrorStreamCaptureUnsupported, "waiting for the capturing stream");
  }
  REFUSE_IN_CAPTURE("cudaStreamSynchronize");
  wait_until(busy_until_s());
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t s) {
  (void)s;
  REFUSE_IN_CAPTURE("cudaStreamQuery");
  return now_s() >= busy_until_s() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t s, enum cudaStreamCaptureStatus* status) {
  *status = stream_of(s)->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t s, enum cudaStreamCaptureStatus* status,
                                     unsigned long long* id, cudaGraph_t* graph,
                                     const cudaGraphNode_t** dependencies,
                                     const cudaGraphEdgeData** edges, size_t* count) {
  Capture* capture = stream_of(s)->capture;
  cudaStreamIsCapturing(s, status);
  if (!capture) return cudaSuccess;
  if (id) *id = capture->id;
  if (graph) *graph = (cudaGraph_t)capture;
  if (dependencies) *dependencies = NULL;
  if (edges) *edges = NULL;
  if (count) *count = 0;
  return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode* mode) {
  int before = thread_mode;
  thread_mode = *mode;
  *mode = before;
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode) {
  static unsigned long long captures;
  Stream* stream = stream_of(s);
  if (stream == &legacy)
    return refuse(cudaErrorStreamCaptureUnsupported, "a capture on the default stream");
  if (stream->capture) return refuse(cudaErrorIllegalState, "a capture within a capture");
  stream->capture = calloc(1, sizeof *stream->capture);
  stream->capture->id = ++captures;
  stream->capture->active = 1;
  if (mode != cudaStreamCaptureModeRelaxed) under_way = stream->capture;
  NOTE("capture %llu begins\n", captures);
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* graph) {
  Capture* capture = stream_of(s)->capture;
  if (!capture) return refuse(cudaErrorIllegalState, "the end of no capture");
  stream_of(s)->capture = under_way = NULL;
  capture->active = 0;
  NOTE("capture %llu ends: %d nodes\n", capture->id, capture->nodes);
  *graph = capture->invalid ? NULL : (cudaGraph_t)capture;
  if (capture->invalid) return refuse(cudaErrorStreamCaptureInvalidated, "the end of a capture");
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  (void)nodes;
  *count = (size_t)((Capture*)graph)->nodes;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph,
                                          unsigned long long flags) {
  Capture* own = malloc(sizeof *own);
  (void)flags;
  *own = *(Capture*)graph;
  *executable = (cudaGraphExec_t)own;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t s) {
  FAIL_IF_SCRIPTED("cudaGraphLaunch");
  return submit(s, ((Capture*)executable)->cost_s, "graph");
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned flags) {
  Event* event = calloc(1, sizeof *event);
  event->timed = !(flags & cudaEventDisableTiming);
  *e = (cudaEvent_t)event;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* e) { return cudaEventCreateWithFlags(e, 0); }
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
  Event* event = (Event*)e;
  double until = busy_until_s(), now = now_s();
  event->recorded = 1;
  event->capture = stream_of(s)->capture;
  event->at_s = until > now ? until : now;
  return cudaSuccess;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t e, cudaStream_t s, unsigned flags) {
  (void)flags;
  return cudaEventRecord(e, s);
}
static cudaError_t of_host(Event* event, const char* call) {
  if (event->capture && event->capture->active) return refuse(cudaErrorCapturedEvent, call);
  return unsafe(call);
}
cudaError_t cudaEventQuery(cudaEvent_t e) {
  cudaError_t error = of_host((Event*)e, "cudaEventQuery");
  if (error) return error;
  return now_s() >= ((Event*)e)->at_s ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
  cudaError_t error = of_host((Event*)e, "cudaEventSynchronize");
  if (!error) wait_until(((Event*)e)->at_s);
  return error;
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t from, cudaEvent_t to) {
  Event *first = (Event*)from, *second = (Event*)to;
  if (!first->timed || !second->timed || !first->recorded || !second->recorded)
    return refuse(cudaErrorInvalidResourceHandle, "the time between events that have none");
  if (now_s() < second->at_s) return cudaErrorNotReady;
  *ms = (float)(1e3 * (second->at_s - first->at_s));
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags) {
  Event* event = (Event*)e;
  Stream* stream = stream_of(s);
  (void)flags;
  if (event->capture && event->capture->active && !stream->capture) {
    stream->capture = event->capture;
  } else if (stream->capture && event->recorded && !event->capture) {
    stream->capture->invalid = 1;
    return refuse(cudaErrorStreamCaptureIsolation, "a capture that waits for what is outside");
  }
  return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t function, void* data) {
  if (!stream_of(s)->capture) function(data);
  return cudaSuccess;
}
