// WITAN_HOST_DEVICE before a function that the host and kernels both call; nothing where no CUDA
// compiler reads it.
#pragma once

#if defined(__CUDACC__)
#define WITAN_HOST_DEVICE __host__ __device__
#else
#define WITAN_HOST_DEVICE
#endif
