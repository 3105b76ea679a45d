// Keys and values of the tokens decoded so far, per layer.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor/tensor.h"

namespace witan {

struct KvCache {
  // key_width, value_width: elements per token and layer; 0 values: latent attention, whose values
  // are part of the keys.
  KvCache(std::int64_t layers, std::int64_t batch, std::int64_t capacity, std::int64_t key_width,
          std::int64_t value_width, DType dtype, Device device);

  std::int64_t batch;
  std::int64_t capacity;              // tokens per sequence
  std::vector<std::int32_t> lengths;  // [batch] tokens of each sequence, host
  std::vector<Tensor> keys, values;   // per layer: [batch, capacity, key_width or value_width]
};

}  // namespace witan
