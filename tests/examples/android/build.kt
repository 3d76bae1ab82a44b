// The one name of android.os.Build that the app reads. Android's declarations here are those of API 23; this came with 31.
package android.os

object Build {
    const val SOC_MODEL: String = "unknown"
}
