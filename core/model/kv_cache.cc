#include "core/model/kv_cache.h"

namespace witan {

KvCache::KvCache(std::int64_t layers, std::int64_t batch_size, std::int64_t tokens,
                 std::int64_t key_width, std::int64_t value_width, DType dtype, Device device)
    : batch(batch_size), capacity(tokens), lengths(static_cast<std::size_t>(batch_size), 0) {
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    keys.emplace_back(Shape{batch, capacity, key_width}, dtype, device);
    values.emplace_back(Shape{batch, capacity, value_width}, dtype, device);
  }
}

}  // namespace witan
