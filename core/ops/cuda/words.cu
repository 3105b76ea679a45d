#include "core/ops/cuda/words.h"

#include <algorithm>

#include "core/base/cuda/launch.h"

namespace witan::ops::cuda {
namespace {

constexpr int kWords = 256;  // of one launch: 2 KiB of the 4 KiB that arguments may take

struct Words {
  std::int64_t value[kWords];
};

__global__ void upload_words_kernel(Words words, int count, std::int64_t* to) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < count) to[i] = words.value[i];
}

}  // namespace

void upload_words(const Context& ctx, std::span<const std::int64_t> words, std::int64_t* to) {
  for (std::size_t begin = 0; begin < words.size(); begin += kWords) {
    const std::size_t count = std::min<std::size_t>(kWords, words.size() - begin);
    Words part{};
    std::copy_n(words.begin() + static_cast<std::ptrdiff_t>(begin), count, part.value);
    launch(upload_words_kernel, dim3(1), dim3(kWords), 0, ctx.stream, part, static_cast<int>(count),
           to + begin);
  }
}

}  // namespace witan::ops::cuda
