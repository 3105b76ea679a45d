// Machine descriptions: mistakes by line and field, and what witan bench measured.
#include "launch/plan/machine.h"

#include <filesystem>
#include <fstream>

#include "configs/load_machine.h"
#include "core/base/error.h"
#include "launch/bench/report.h"
#include "tests/plan/plan_case.h"

namespace witan::test {
namespace {

constexpr const char* kGood =
    "name: 'm'\nranks: 4\nranks_per_node: 2\nmemory: 8\nf32_tflops: 1\nmemory_bandwidth: 100\n"
    "intra_node { bandwidth: 10 }\ninter_node { bandwidth: 1 }\n";

std::string only_error(const std::string& text, std::int64_t ranks = 0) {
  const configs::LoadedMachine loaded = configs::load_machine(text, "m.textproto", ranks);
  EXPECT_EQ(loaded.errors.size(), 1U) << text;
  return loaded.errors.empty() ? "" : loaded.errors.front().to_string();
}

TEST(Machine, Mistakes) {
  EXPECT_TRUE(configs::load_machine(kGood, "m.textproto", 0).errors.empty());
  EXPECT_EQ(only_error(std::string(kGood) + "mermory: 3"),
            "m.textproto:9:1: mermory: unknown field; did you mean memory?");
  EXPECT_NE(only_error("name: 'm'\nmemory: -1\nf32_tflops: 1\nmemory_bandwidth: 1")
                .find("m.textproto:2:1: memory: "),
            std::string::npos);
  EXPECT_NE(only_error("name: 'm' memory: 1 f32_tflops: 1").find("memory_bandwidth"),
            std::string::npos);
  const std::string no_links =
      "name: 'm'\nranks_per_node: 2\nmemory: 8\nf32_tflops: 1\nmemory_bandwidth: 100\n";
  EXPECT_TRUE(configs::load_machine(no_links, "m.textproto", 0).errors.empty());
  EXPECT_NE(only_error(no_links, 2).find("intra_node: is missing"), std::string::npos);
  EXPECT_NE(only_error(no_links + "intra_node { bandwidth: 1 }", 3).find("inter_node: is missing"),
            std::string::npos);
}

TEST(Machine, PresetsAreGood) {
  int machines = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(WITAN_SOURCE_DIR "/configs/machines")) {
    const configs::LoadedMachine loaded = configs::load_machine_file(entry.path().string(), 1024);
    for (const configs::ConfigError& error : loaded.errors) ADD_FAILURE() << error.to_string();
    ++machines;
  }
  EXPECT_EQ(machines, 3);
}

TEST(Machine, PeakByPrecision) {
  const configs::MachineConfig gpu =
      machine("name: 'g' memory: 1 memory_bandwidth: 1 f32_tflops: 2 bf16_tflops: 30");
  EXPECT_EQ(peak_flops(gpu, configs::RuntimeConfig::FLOAT32), 2e12);
  EXPECT_EQ(peak_flops(gpu, configs::RuntimeConfig::FLOAT64), 1e12);
  EXPECT_EQ(peak_flops(gpu, configs::RuntimeConfig::BF16), 30e12);
}

BenchResult limit(const char* what, double flop, double bytes) {
  BenchResult result{"limits", "", what, {}};
  result.seconds.median = 1.0;
  result.flop = flop;
  result.bytes = bytes;
  return result;
}

class MeasuredMachine : public testing::Test {
 protected:
  std::string write(const std::vector<BenchResult>& results) {
    BenchReport report;
    report.machine = {{"ranks", "2"}, {"nodes", "1"}};
    report.results = results;
    std::ofstream(path_) << to_json(report);
    return path_;
  }
  void TearDown() override { std::filesystem::remove(path_); }
  const std::string path_ = testing::TempDir() + "witan-limits.json";
};

TEST_F(MeasuredMachine, TakesWhatWasMeasured) {
  write({limit("multiply-adds", 400e9, 0), limit("own kernel, NT", 200e9, 0),
         limit("oneDNN, NT", 250e9, 0), limit("own kernel, NN", 300e9, 0),
         limit("oneDNN, NN", 280e9, 0), limit("vdpbf16ps", 900e9, 0),
         limit("read memory, 9 KiB a thread", 0, 30e9), limit("shared windows, 64 KiB", 0, 1e9),
         limit("shared windows, 16 MiB", 0, 8e9)});
  const configs::MachineConfig measured = measured_machine(path_, std::nullopt);
  EXPECT_EQ(measured.ranks(), 2);
  EXPECT_EQ(measured.ranks_per_node(), 2);
  EXPECT_DOUBLE_EQ(measured.f32_tflops(), 0.2);
  EXPECT_DOUBLE_EQ(measured.bf16_tflops(), 0.45);
  EXPECT_DOUBLE_EQ(measured.matrix_efficiency(), 2.0 / (1.0 / 250 + 1.0 / 300) / 400);
  EXPECT_DOUBLE_EQ(measured.memory_bandwidth(), 15.0);
  EXPECT_DOUBLE_EQ(measured.intra_node().bandwidth(), 4.0);
  EXPECT_GT(measured.memory(), 0.0);

  configs::MachineConfig base;
  base.set_name("mine");
  base.set_memory(3.0);
  base.set_attention_efficiency(0.9);
  const configs::MachineConfig both = measured_machine(path_, base);
  EXPECT_EQ(both.name(), "mine");
  EXPECT_EQ(both.memory(), 3.0);
  EXPECT_EQ(both.attention_efficiency(), 0.9);
  EXPECT_DOUBLE_EQ(both.f32_tflops(), 0.2);
}

TEST_F(MeasuredMachine, RefusesAFileWithoutLimits) {
  write({});
  try {
    measured_machine(path_, std::nullopt);
    FAIL() << "expected a UserError";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("holds no limits"), std::string::npos);
  }
}

}  // namespace
}  // namespace witan::test
