/* Launches of torch's kernels, of Triton's and of cuBLAS: their place in a stream, and a rough
 * time. */
#include <cublasLt.h>
#include <cublas_v2.h>
#include <dlfcn.h>

#include "host.h"

static cudaError_t launch(const char* name, dim3 grid, dim3 block, cudaStream_t s) {
  char what[256];
  double threads = (double)grid.x * grid.y * grid.z * block.x * block.y * block.z;
  double cost_s = 32 * threads / BYTES_S; /* sixteen bytes read and as many written by each */
  snprintf(what, sizeof what, "%s", name);
  return submit(s, cost_s > LAUNCH_S ? cost_s : LAUNCH_S, what);
}

/* Kernels that libraries bring: their names by the host's stand-in for each. */
typedef struct Kernel {
  const void* stand_in;
  const char* name;
  struct Kernel* next;
} Kernel;
static Kernel* kernels[1 << 16];

static Kernel** bucket(const void* stand_in) {
  return &kernels[((uint64_t)(uintptr_t)stand_in * 0x9E3779B97F4A7C15ull) >> 48];
}
static const char* name_of(const void* stand_in) {
  Kernel* kernel = *bucket(stand_in);
  while (kernel && kernel->stand_in != stand_in) kernel = kernel->next;
  return kernel ? kernel->name : "a kernel without a name";
}
void** __cudaRegisterFatBinary(void* binary) {
  static void* handle;
  (void)binary;
  return &handle;
}
void __cudaRegisterFunction(void** handle, const char* stand_in, char* device, const char* name,
                            int limit, void* a, void* b, void* c, void* d, int* e) {
  Kernel* kernel = malloc(sizeof *kernel);
  (void)handle, (void)device, (void)limit, (void)a, (void)b, (void)c, (void)d, (void)e;
  *kernel = (Kernel){stand_in, name, *bucket(stand_in)};
  *bucket(stand_in) = kernel;
}
static __thread struct {
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
} configured;
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t s) {
  configured.grid = grid;
  configured.block = block;
  configured.shared = shared;
  configured.stream = s;
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* s) {
  *grid = configured.grid;
  *block = configured.block;
  *shared = configured.shared;
  *(cudaStream_t*)s = configured.stream;
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* stand_in) {
  *kernel = (cudaKernel_t)stand_in;
  return cudaSuccess;
}
cudaError_t cudaLaunchKernel(const void* stand_in, dim3 grid, dim3 block, void** arguments,
                             size_t shared, cudaStream_t s) {
  (void)arguments, (void)shared;
  return launch(name_of(stand_in), grid, block, s);
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                               size_t shared, cudaStream_t s) {
  return cudaLaunchKernel((const void*)kernel, grid, block, arguments, shared, s);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* how, const void* stand_in, void** a) {
  return cudaLaunchKernel(stand_in, how->gridDim, how->blockDim, a, 0, how->stream);
}
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes* attributes, const void* stand_in) {
  (void)stand_in;
  memset(attributes, 0, sizeof *attributes);
  attributes->maxThreadsPerBlock = 1024;
  attributes->numRegs = 32;
  attributes->ptxVersion = attributes->binaryVersion = 90;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* f,
                                                                   int block, size_t shared,
                                                                   unsigned flags) {
  (void)f, (void)block, (void)shared, (void)flags;
  *blocks = 4;
  return cudaSuccess;
}
static int nothing(void) { return 0; }
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned version,
                                             unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult* result) {
  (void)version, (void)flags;
  *function = dlsym(RTLD_DEFAULT, name);
  if (!*function) *function = (void*)nothing;
  if (result) *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}

/* The driver, as Triton and inductor call it. */
static int context;
CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  return (*device = ordinal) ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute which, CUdevice device) {
  (void)device;
  *value = attribute((int)which);
  return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext* current) {
  *current = (CUcontext)&context;
  return CUDA_SUCCESS;
}
CUresult cuCtxGetLimit(size_t* value, CUlimit limit) {
  (void)limit;
  *value = 0;
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext* retained, CUdevice device) {
  (void)device;
  return cuCtxGetCurrent(retained);
}
CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned* flags, int* active) {
  (void)device;
  *flags = 0;
  *active = 1;
  return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult error, const char** text) {
  (void)error;
  *text = "gpu_host refused";
  return CUDA_SUCCESS;
}
CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  (void)image;
  if (under_way) NOTE("beside the capture: a module is loaded\n");
  *module = (CUmodule)&context;
  return CUDA_SUCCESS;
}
CUresult cuModuleLoad(CUmodule* module, const char* path) { return cuModuleLoadData(module, path); }
CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  (void)module;
  *function = (CUfunction)strdup(name);
  return CUDA_SUCCESS;
}
CUresult cuFuncGetAttribute(int* value, CUfunction_attribute which, CUfunction function) {
  (void)function;
  *value = which == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024
           : which == CU_FUNC_ATTRIBUTE_NUM_REGS            ? 32
                                                            : 0;
  return CUDA_SUCCESS;
}
CUresult cuPointerGetAttribute(void* value, CUpointer_attribute which, CUdeviceptr pointer) {
  if (which == CU_POINTER_ATTRIBUTE_DEVICE_POINTER) *(CUdeviceptr*)value = pointer;
  return range_of((void*)pointer) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                        unsigned by, unsigned bz, unsigned shared, CUstream s, void** parameters,
                        void** extra) {
  dim3 grid = {gx, gy, gz}, block = {bx, by, bz};
  (void)shared, (void)parameters, (void)extra;
  return (CUresult)launch((const char*)f, grid, block, (cudaStream_t)s);
}
CUresult cuLaunchKernelEx(const CUlaunchConfig* how, CUfunction f, void** parameters,
                          void** extra) {
  return cuLaunchKernel(f, how->gridDimX, how->gridDimY, how->gridDimZ, how->blockDimX,
                        how->blockDimY, how->blockDimZ, 0, how->hStream, parameters, extra);
}

/* cuBLAS. */
typedef struct {
  cudaStream_t stream;
  cublasMath_t math;
  cublasPointerMode_t pointers;
} Handle;
static cublasStatus_t product(cudaStream_t s, double m, double n, double k, double batch,
                              cudaDataType type) {
  double rate = type == CUDA_R_32F                            ? WIDE_FLOP_S
                : type == CUDA_R_8F_E4M3 || type == CUDA_R_8I ? NARROW_FLOP_S
                                                              : FLOP_S;
  double computing_s = 2 * m * n * k * batch / rate;
  double moving_s = 2 * batch * (m * k + k * n + m * n) / BYTES_S;
  submit(s, LAUNCH_S + (computing_s > moving_s ? computing_s : moving_s), "product");
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  if (under_way) NOTE("beside the capture: a handle of cuBLAS is made\n");
  *handle = (cublasHandle_t)calloc(1, sizeof(Handle));
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t s) {
  ((Handle*)handle)->stream = s;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  ((Handle*)handle)->math = mode;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t* mode) {
  *mode = ((Handle*)handle)->math;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t mode) {
  ((Handle*)handle)->pointers = mode;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t* mode) {
  *mode = ((Handle*)handle)->pointers;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb,
                            int m, int n, int k, const void* alpha, const void* a,
                            cudaDataType type, int lda, const void* b, cudaDataType tb_, int ldb,
                            const void* beta, void* c, cudaDataType tc, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
  (void)ta, (void)tb, (void)alpha, (void)a, (void)lda, (void)b, (void)tb_, (void)ldb, (void)beta;
  (void)c, (void)tc, (void)ldc, (void)compute, (void)algorithm;
  return product(((Handle*)handle)->stream, m, n, k, 1, type);
}
cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t ta,
                                          cublasOperation_t tb, int m, int n, int k,
                                          const void* alpha, const void* a, cudaDataType type,
                                          int lda, long long sa, const void* b, cudaDataType tb_,
                                          int ldb, long long sb, const void* beta, void* c,
                                          cudaDataType tc, int ldc, long long sc, int batch,
                                          cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
  (void)ta, (void)tb, (void)alpha, (void)a, (void)lda, (void)sa, (void)b, (void)tb_, (void)ldb;
  (void)sb, (void)beta, (void)c, (void)tc, (void)ldc, (void)sc, (void)compute, (void)algorithm;
  return product(((Handle*)handle)->stream, m, n, k, batch, type);
}
cublasStatus_t cublasSgemm_v2(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb,
                              int m, int n, int k, const float* alpha, const float* a, int lda,
                              const float* b, int ldb, const float* beta, float* c, int ldc) {
  (void)ta, (void)tb, (void)alpha, (void)a, (void)lda, (void)b, (void)ldb, (void)beta, (void)c;
  (void)ldc;
  return product(((Handle*)handle)->stream, m, n, k, 1, CUDA_R_32F);
}
/* cuBLASLt: a layout keeps its size, a product whether its first operand is transposed. */
typedef struct {
  cudaDataType type;
  uint64_t rows, columns;
  int32_t batch;
} Layout;
typedef struct {
  int32_t transposed;
} Description;
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t leading) {
  Layout* made = calloc(1, sizeof *made);
  (void)leading;
  *made = (Layout){type, rows, columns, 1};
  *layout = (cublasLtMatrixLayout_t)made;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t which,
                                                const void* value, size_t size) {
  (void)size;
  if (which == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT) ((Layout*)layout)->batch = *(int32_t*)value;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description,
                                        cublasComputeType_t compute, cudaDataType scale) {
  (void)compute, (void)scale;
  *description = (cublasLtMatmulDesc_t)calloc(1, sizeof(Description));
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t which,
                                              const void* value, size_t size) {
  (void)size;
  if (which == CUBLASLT_MATMUL_DESC_TRANSA)
    ((Description*)description)->transposed = *(int32_t*)value;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = (cublasLtMatmulPreference_t)calloc(1, sizeof(Description));
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle,
                                              cublasLtMatmulDesc_t product_,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t* results,
                                              int* count) {
  (void)handle, (void)product_, (void)a, (void)b, (void)c, (void)d, (void)preference, (void)most;
  memset(results, 0, sizeof *results);
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t description,
                              const void* alpha, const void* a, cublasLtMatrixLayout_t of_a,
                              const void* b, cublasLtMatrixLayout_t of_b, const void* beta,
                              const void* c, cublasLtMatrixLayout_t of_c, void* d,
                              cublasLtMatrixLayout_t of_d, const cublasLtMatmulAlgo_t* algorithm,
                              void* workspace, size_t size, cudaStream_t s) {
  Layout *left = (Layout*)of_a, *result = (Layout*)of_d;
  int transposed = ((Description*)description)->transposed;
  (void)handle, (void)alpha, (void)a, (void)b, (void)of_b, (void)beta, (void)c, (void)of_c;
  (void)d, (void)algorithm, (void)workspace, (void)size;
  return product(s, (double)result->rows, (double)result->columns,
                 (double)(transposed ? left->rows : left->columns), result->batch, left->type);
}
