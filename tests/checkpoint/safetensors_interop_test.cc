// Files that other programs wrote.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "launch/checkpoint/safetensors.h"

namespace witan {
namespace {

namespace fs = std::filesystem;

class SafetensorsInteropTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(WITAN_SOURCE_DIR) / "../shared/data/interop/safetensors";
    if (!fs::is_directory(folder_)) GTEST_SKIP() << folder_ << " is absent";
  }
  SafetensorsReader open(const char* name) const {
    return SafetensorsReader((folder_ / name).string());
  }
  static std::vector<float> floats(const SafetensorsReader& reader, const char* name) {
    const StTensor* tensor = reader.find(name);
    EXPECT_NE(tensor, nullptr) << name;
    std::vector<float> values(tensor->bytes / sizeof(float));
    std::memcpy(values.data(), reader.data(*tensor), tensor->bytes);
    return values;
  }
  fs::path folder_;
};

// Expected values: read with Python's struct module.
TEST_F(SafetensorsInteropTest, MnistCnn) {
  const SafetensorsReader reader = open("mnist_cnn.safetensors");
  EXPECT_EQ(reader.tensors().size(), 20U);
  EXPECT_EQ(reader.find("fc1.weight")->shape, (std::vector<std::int64_t>{32, 11616}));
  EXPECT_EQ(reader.find("norm1.num_batches_tracked")->dtype, StDType::kI64);
  const std::vector<float> bias = floats(reader, "conv1.bias");
  EXPECT_FLOAT_EQ(bias.front(), 0.10854441672563553F);
  EXPECT_FLOAT_EQ(bias.back(), 0.08375561237335205F);
  const std::vector<float> last = floats(reader, "norm2.weight");
  EXPECT_FLOAT_EQ(last.back(), 3.3394875526428223F);
}

TEST_F(SafetensorsInteropTest, MultiLayer) {
  const SafetensorsReader reader = open("multi_layer.safetensors");
  EXPECT_EQ(reader.tensors().size(), 9U);
  const std::vector<float> weight = floats(reader, "fc1.weight");
  double sum = 0.0;
  for (const float value : weight) sum += static_cast<double>(value);
  EXPECT_NEAR(sum, -3.8182605504989624, 1e-9);
}

}  // namespace
}  // namespace witan
