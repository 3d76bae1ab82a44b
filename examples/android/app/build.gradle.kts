plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
}

android {
    namespace = "org.edgeqwt.demo"
    compileSdk = 35

    defaultConfig {
        applicationId = "org.edgeqwt.demo"
        minSdk = 31 // LiteRT knows a phone's NPU by Build.SOC_MODEL, which Android 12 brought
        targetSdk = 35
        versionCode = 1
        versionName = "1.0"
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") } // phones, and the emulator on a computer
    }
    // Models are mapped into memory, which compressed assets cannot be.
    androidResources { noCompress += "tflite" }
    // Qualcomm's libraries are opened by their path, so they have to lie in a folder.
    packaging { jniLibs { useLegacyPackaging = true } }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
    kotlin { jvmToolchain(17) }
}

dependencies {
    implementation(libs.litert)
    implementation(libs.litert.gpu)
}

val demo = layout.projectDirectory.file("src/main/assets/demo.json")
tasks.named("preBuild") {
    doFirst {
        check(demo.asFile.exists()) { "There is no model yet: edgeqwt demo OUT --android app/src/main/assets" }
    }
}
