#include "launch/bench/report.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/base/error.h"
#include "launch/bench/step_run.h"

namespace witan {
namespace {

BenchResult layer(double seconds, double share) {
  BenchResult result{"layer", "4096 tokens", "forward", {seconds, seconds * 0.9, seconds * 1.2, 7}};
  result.flop = 3e9;
  result.bytes = 2e6;
  result.tokens = 4096;
  result.ratios = {{"of peak", share, 0.75}, {"of the bound", 1.1, 1.15, true}, {"free", 2.0}};
  return result;
}

BenchReport report_of(const BenchResult& result) { return {{{"ranks", "1"}}, {result}}; }

void expect_same(const BenchResult& a, const BenchResult& b) {
  EXPECT_EQ(a.section, b.section);
  EXPECT_EQ(a.subject, b.subject);
  EXPECT_EQ(a.what, b.what);
  EXPECT_EQ(a.seconds.median, b.seconds.median);
  EXPECT_EQ(a.seconds.low, b.seconds.low);
  EXPECT_EQ(a.seconds.high, b.seconds.high);
  EXPECT_EQ(a.seconds.count, b.seconds.count);
  EXPECT_EQ(a.flop, b.flop);
  EXPECT_EQ(a.bytes, b.bytes);
  EXPECT_EQ(a.tokens, b.tokens);
  ASSERT_EQ(a.ratios.size(), b.ratios.size());
  for (std::size_t i = 0; i < a.ratios.size(); ++i) {
    EXPECT_EQ(a.ratios[i].of, b.ratios[i].of);
    EXPECT_EQ(a.ratios[i].value, b.ratios[i].value);
    EXPECT_EQ(a.ratios[i].bar, b.ratios[i].bar);
    EXPECT_EQ(a.ratios[i].at_most, b.ratios[i].at_most);
    EXPECT_EQ(a.ratios[i].holds(), b.ratios[i].holds());
  }
}

class ReportFile : public testing::Test {
 protected:
  std::string write(const std::string& text) {
    std::ofstream(path_) << text;
    return path_;
  }
  TemporaryFolder folder_;
  std::string path_ = folder_.path() + "/bench.json";
};

TEST_F(ReportFile, HoldsWhatWasWritten) {
  const BenchReport written = report_of(layer(0.25, 0.5));
  const BenchReport read = read_report(write(to_json(written)));
  EXPECT_EQ(read.machine, written.machine);
  ASSERT_EQ(read.results.size(), 1U);
  expect_same(read.results.front(), written.results.front());
}

TEST_F(ReportFile, OfAnotherKindIsTheUsersMistake) {
  EXPECT_THROW(read_report(write("{}")), UserError);
  EXPECT_THROW(read_report(write("not JSON")), UserError);
  EXPECT_THROW(read_report(write(R"({"format": "something else"})")), UserError);
  EXPECT_THROW(read_report(folder_.path() + "/absent.json"), UserError);
}

TEST(Ratio, HoldsOnTheRightSideOfItsBar) {
  EXPECT_TRUE((Ratio{"", 0.8, 0.75}).holds());
  EXPECT_FALSE((Ratio{"", 0.7, 0.75}).holds());
  EXPECT_TRUE((Ratio{"", 1.1, 1.15, true}).holds());
  EXPECT_FALSE((Ratio{"", 1.2, 1.15, true}).holds());
  EXPECT_TRUE((Ratio{"", 0.0}).holds());
}

TEST(Compare, CallsSlowerWhatTookLongerAndLostItsShare) {
  const BenchReport before = report_of(layer(0.100, 0.60));
  const BenchComparison worse = compare(before, report_of(layer(0.150, 0.40)), 1.1);
  ASSERT_EQ(worse.slower.size(), 1U);
  EXPECT_EQ(worse.slower.front(), "layer: 4096 tokens: forward");
  EXPECT_NE(worse.text.find("x 1.50"), std::string::npos) << worse.text;
  EXPECT_NE(worse.text.find("SLOWER"), std::string::npos) << worse.text;
}

TEST(Compare, ExcusesABusyMachineAndSmallChanges) {
  const BenchReport before = report_of(layer(0.100, 0.60));
  EXPECT_TRUE(compare(before, report_of(layer(0.150, 0.59)), 1.1).slower.empty());
  EXPECT_TRUE(compare(before, report_of(layer(0.105, 0.50)), 1.1).slower.empty());
  EXPECT_TRUE(compare(before, report_of(layer(0.050, 0.90)), 1.1).slower.empty());
  EXPECT_EQ(compare(before, report_of(layer(0.105, 0.56)), 1.01).slower.size(), 1U);
}

TEST(Compare, WithoutARatioTheTimeDecides) {
  BenchResult before = layer(0.100, 0.6);
  BenchResult after = layer(0.120, 0.6);
  before.ratios.clear();
  after.ratios.clear();
  EXPECT_EQ(compare(report_of(before), report_of(after), 1.1).slower.size(), 1U);
}

TEST(Compare, AnUpperBarGetsWorseUpwards) {
  BenchResult before = layer(0.100, 0.6);
  BenchResult after = layer(0.150, 0.6);
  before.ratios = {{"of the bound", 1.0, 1.15, true}};
  after.ratios = {{"of the bound", 1.4, 1.15, true}};
  EXPECT_EQ(compare(report_of(before), report_of(after), 1.1).slower.size(), 1U);
  EXPECT_TRUE(compare(report_of(after), report_of(before), 1.1).slower.empty());
}

TEST(Compare, LeavesOutWhatOnlyOneReportHasAndSaysWhatDiffers) {
  BenchResult other = layer(0.300, 0.1);
  other.what = "backward";
  BenchReport after = report_of(other);
  after.machine["ranks"] = "2";
  const BenchComparison comparison = compare(report_of(layer(0.1, 0.6)), after, 1.1);
  EXPECT_TRUE(comparison.slower.empty());
  EXPECT_NE(comparison.text.find("ranks: 1 -> 2"), std::string::npos) << comparison.text;
  EXPECT_NE(comparison.text.find("0 compared"), std::string::npos) << comparison.text;
}

}  // namespace
}  // namespace witan
