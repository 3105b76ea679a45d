// Router arithmetic over a range of tokens: scores, selection, weights and their gradients. The
// number of experts is small, so rows are short.
#pragma once

#include <cstdint>

#include "core/ops/cpu/isa.h"
#include "core/ops/topk.h"

namespace witan::cpu {

// What router_backward reads and writes, at the first token of the range.
template <class T>
struct RouterGradient {
  const T* z;  // [tokens, experts]; read only if z_loss_scale is not 0
  const T* s;
  const T* lse;                 // [tokens]
  const std::int32_t* indices;  // [tokens, top_k]
  const T* weights;
  const T* dweights;
  const T* ds_extra;  // [tokens, experts] or null
  T* dz;              // [tokens, experts]
  double scale;
  double z_loss_scale;
};

}  // namespace witan::cpu

#define WITAN_ROUTER_KERNELS                                                                \
  template <class T>                                                                        \
  void router_score(ops::Score score, const T* z, T* s, T* lse, std::int64_t tokens,        \
                    std::int64_t experts);                                                  \
  /* A null bias means 0. */                                                                \
  template <class T>                                                                        \
  void topk(const T* s, const T* bias, std::int32_t* indices, std::int64_t tokens,          \
            std::int64_t experts, std::int64_t top_k);                                      \
  template <class T>                                                                        \
  void group_topk(const ops::ExpertGroups& groups, const T* s, const T* bias,               \
                  std::int32_t* indices, std::int64_t tokens, std::int64_t experts,         \
                  std::int64_t top_k);                                                      \
  template <class T>                                                                        \
  void keep_mass(double mass, const T* s, std::int32_t* indices, std::int64_t tokens,       \
                 std::int64_t experts, std::int64_t top_k);                                 \
  template <class T>                                                                        \
  void route_weights(ops::RouteWeights kind, double scale, const T* s,                      \
                     const std::int32_t* indices, T* weights, std::int64_t tokens,          \
                     std::int64_t experts, std::int64_t top_k);                             \
  template <class T>                                                                        \
  void router_backward(ops::Score score, ops::RouteWeights kind,                            \
                       const cpu::RouterGradient<T>& gradient, std::int64_t tokens,         \
                       std::int64_t experts, std::int64_t top_k);                           \
  /* partial [experts] is overwritten with the column sums of p over these tokens. */       \
  template <class T>                                                                        \
  void probability_sums(ops::Score score, const T* s, double* partial, std::int64_t tokens, \
                        std::int64_t experts);                                              \
  template <class T>                                                                        \
  void probability_backward(ops::Score score, const T* s, const T* coefficient, T* ds,      \
                            std::int64_t tokens, std::int64_t experts);

WITAN_DECLARE_ISA(WITAN_ROUTER_KERNELS)
