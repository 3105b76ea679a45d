// Event files: the frames of their records, and what they say. tests/interop reads them with
// TensorBoard itself.
#include "launch/metrics/tensorboard_log.h"

#include <map>

#include "core/base/error.h"
#include "tests/checkpoint/scratch_folder.h"
#include "tests/metrics/event_files.h"

namespace witan {
namespace {

namespace fs = std::filesystem;
using tensorboard::Event;

// Check values of CRC-32C from RFC 3720, B.4.
TEST(TfRecordTest, Crc32c) {
  const auto unmasked = [](const std::string& data) {
    const std::uint32_t rotated = masked_crc32c(data) - 0xA282EAD8U;
    return rotated >> 17 | rotated << 15;
  };
  EXPECT_EQ(unmasked(std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(unmasked(std::string(32, '\xff')), 0x62A8AB43U);
  std::string rising;
  for (char c = 0; c < 32; ++c) rising.push_back(c);
  EXPECT_EQ(unmasked(rising), 0x46DD794EU);
  EXPECT_EQ(unmasked("123456789"), 0xE3069283U);
}

class TensorBoardLogTest : public ::testing::Test {
 protected:
  std::string folder() const { return scratch_ / "tensorboard"; }
  // Of the one file in the folder.
  std::vector<Event> events() const {
    std::vector<std::string> files;
    for (const auto& entry : fs::directory_iterator(folder())) files.push_back(entry.path());
    EXPECT_EQ(files.size(), 1U);
    EXPECT_NE(files.at(0).find("events.out.tfevents."), std::string::npos);
    return test::events_of(files.at(0));
  }
  static std::map<std::string, float> scalars(const Event& event) {
    std::map<std::string, float> result;
    for (const auto& value : event.summary().value())
      if (value.has_simple_value()) result[value.tag()] = value.simple_value();
    return result;
  }
  ScratchFolder scratch_;
};

TEST_F(TensorBoardLogTest, BeginsWithVersionSessionAndConfig) {
  { const TensorBoardLog log(folder(), 30, "name: \"x\"\nmodel {}"); }
  const std::vector<Event> all = events();
  ASSERT_EQ(all.size(), 3U);
  EXPECT_EQ(all[0].file_version(), "brain.Event:2");
  EXPECT_GT(all[0].wall_time(), 1.6e9);
  EXPECT_EQ(all[1].session_log().status(), tensorboard::SessionLog::START);
  EXPECT_EQ(all[1].step(), 31);
  const auto& config = all[2].summary().value(0);
  EXPECT_EQ(config.tag(), "config");
  EXPECT_EQ(config.metadata().plugin_data().plugin_name(), "text");
  EXPECT_EQ(config.tensor().string_val(0), "    name: \"x\"\n    model {}");
}

TEST_F(TensorBoardLogTest, StepsAreScalarsAndLoads) {
  StepMetrics metrics;
  metrics.step = 20;
  metrics.loss = 2.5;
  metrics.tokens = 100;
  metrics.wall = 0.5;
  LayerMetrics& layer = metrics.layers.emplace_back();
  layer.layer = 3;
  layer.counts = {10, 0, 30};
  layer.losses = {0.25, 0.0};
  {
    TensorBoardLog log(folder(), 0, "");
    log.step(metrics, {"switch_aux", "z"}, true);
    metrics.step = 21;
    log.step(metrics, {"switch_aux", "z"}, false);
  }
  const std::vector<Event> all = events();
  ASSERT_EQ(all.size(), 5U);
  EXPECT_EQ(all[3].step(), 20);
  const auto figures = scalars(all[3]);
  EXPECT_EQ(figures.at("train/loss"), 2.5F);
  EXPECT_EQ(figures.at("train/tokens_per_second"), 200.0F);
  EXPECT_EQ(figures.at("losses/switch_aux/layer_3"), 0.25F);
  EXPECT_EQ(figures.count("losses/z/layer_3"), 0U);
  EXPECT_EQ(figures.at("load/dead/layer_3"), 1.0F);
  EXPECT_FLOAT_EQ(figures.at("load/max_vio/layer_3"), 30.0F * 3 / 40 - 1);

  const auto& last = *all[3].summary().value().rbegin();
  ASSERT_EQ(last.tag(), "experts/layer_3");
  const tensorboard::Histogram& load = last.histo();
  ASSERT_EQ(load.bucket_size(), 3);
  EXPECT_EQ(load.bucket(0), 10);
  EXPECT_EQ(load.bucket(2), 30);
  EXPECT_EQ(load.bucket_limit(1), 1.5);
  EXPECT_EQ(load.num(), 40);
  EXPECT_EQ(load.sum(), 60);
  EXPECT_EQ(load.sum_squares(), 120);
  EXPECT_EQ(load.max(), 2);
  for (const auto& value : all[4].summary().value()) EXPECT_FALSE(value.has_histo());
}

TEST_F(TensorBoardLogTest, Evaluations) {
  EvalResult known, unknown;
  known.name = "books";
  known.loss = 3.0;
  known.bytes = 10;
  known.nats_per_byte = 1.5;
  unknown.name = "ids";
  {
    TensorBoardLog log(folder(), 0, "");
    log.evaluation(50, {known, unknown});
  }
  const Event last = events().back();
  EXPECT_EQ(last.step(), 50);
  EXPECT_EQ(scalars(last), (std::map<std::string, float>{{"validation/loss/books", 3.0F},
                                                         {"validation/nats_per_byte/books", 1.5F},
                                                         {"validation/loss/ids", 0.0F}}));
}

TEST_F(TensorBoardLogTest, AFolderThatCannotBeMade) {
  std::ofstream(scratch_ / "file") << "x";
  EXPECT_THROW(TensorBoardLog(scratch_ / "file/below", 0, ""), UserError);
}

}  // namespace
}  // namespace witan
